package listener_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestInsteadOfReleased: what is sent instead of a text was held by a person while word of
// the text came. It is judged as soon as it is released, and not when the time for
// word is over.
func TestInsteadOfReleased(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fate dispatch.Fate // "": no word
		want string
	}{
		{"not arrived", "undelivered", "delivered"},
		{"arrived", "delivered", "skipped"},
		{"no word yet", "", "scheduled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newProvider(nil)
			l := newListener(t, db, routed(p, plain, textAndMail(noKey)), func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
			start(t, l)
			event := insert(t, db, "x", `{}`)
			text, mail := idOf(t, db, event, "text", "delivered"), idOf(t, db, event, "mail", "scheduled")
			processed(t, db, 5*time.Second)
			do := func(action operate.Action) {
				t.Helper()
				res, err := operate.New(db.Pool).Do(t.Context(), operate.Request{Action: action, Filter: operate.Filter{IDs: []uuid.UUID{mail}}, By: operate.By{Who: "a test", Via: "command"}})
				if err != nil || res.Done != 1 {
					t.Fatalf("%s: %+v, %v", action, res, err)
				}
			}
			do(operate.Hold)
			if tt.fate != "" {
				report(t, l, text, tt.fate)
			}
			before := pgtest.QueryVal[time.Time](t, db, `select due_at from outbox.deliveries where id = $1`, mail)
			do(operate.Release)
			idOf(t, db, event, "mail", tt.want)
			if tt.want == "scheduled" { // judged, and put off for what is left of the time
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
					due := pgtest.QueryVal[time.Time](t, db, `select due_at from outbox.deliveries where id = $1`, mail)
					return !due.Equal(before) && due.After(time.Now().Add(23*time.Hour)), "due at " + due.String()
				})
			}
			if n, want := mails(p), map[bool]int{true: 1}[tt.want == "delivered"]; n != want {
				t.Errorf("the mail was sent %d times, want %d", n, want)
			}
		})
	}
}
