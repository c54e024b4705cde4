package listener_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestInsteadOfTheNewestPlan: after an event was opened again with another number, what
// is sent instead is judged by the text of the newest plan, and not by what an older one
// left behind.
func TestInsteadOfTheNewestPlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		plans  string        // the plans of the text, one after the other: a number and what becomes of it
		report dispatch.Fate // of the newest
		want   string        // of the mail, and why
	}{
		{"as planned", "1 taken", "undelivered", "delivered"},
		{"skipped, and then sent to one", "1 skipped, 2 taken", "undelivered", "delivered"},
		{"skipped twice, and then sent to another", "1 skipped, 1 skipped, 2 taken", "undelivered", "delivered"},
		{"skipped, and then arrived", "1 skipped, 2 taken", "delivered", "skipped the step text arrived"},
		{"sent to one, and to another", "1 taken, 2 taken", "undelivered", "delivered"},
		{"sent to one, and then skipped", "1 taken, 2 skipped", "", "skipped the step text was not sent (skipped)"},
		{"skipped, sent to another, and back", "1 skipped, 2 skipped, 1 taken", "undelivered", "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			plans := strings.Split(tt.plans, ", ")
			at := 0
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				number, becomes, _ := strings.Cut(plans[at], " ")
				at++
				text := step("text", dispatch.Terms{})
				if text.Recipient = "+1500555000" + number; becomes == "skipped" {
					text.Skip = "when: no"
				}
				return []dispatch.Message{fallback(dispatch.Terms{}), text}, nil
			}}
			p := newProvider(nil)
			l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond })
			start(t, l)
			event := insert(t, db, "x", `{}`)
			for i := range plans {
				if i > 0 {
					pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
				}
				processed(t, db, 10*time.Second)
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
					n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where finished_at is null and due_at < now() + interval '1 minute'`)
					return n == 0, "something is open"
				})
			}
			if tt.report != "" {
				id := idOf(t, db, event, "text", "delivered")
				if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where step = 'text' and state = 'delivered'`); n > 1 {
					id = pgtest.QueryVal[[16]byte](t, db, `select id from outbox.deliveries where step = 'text' order by id desc limit 1`)
				}
				report(t, l, id, tt.report)
			}
			state, why, _ := strings.Cut(tt.want, " ")
			var got string
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				got = pgtest.QueryVal[string](t, db, `select state || ' ' || coalesce(last_error, '') from outbox.deliveries where step = 'mail' order by generation desc limit 1`)
				return strings.HasPrefix(got, state) && strings.Contains(got, why), fmt.Sprintf("the mail is %s, want %s", got, tt.want)
			})
			if n, want := mails(p), map[bool]int{true: 1}[state == "delivered"]; n != want {
				t.Errorf("the mail was sent %d times, want %d", n, want)
			}
		})
	}
}
