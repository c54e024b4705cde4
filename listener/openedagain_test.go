package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestOpenedAgainWhileScheduled: what is for later keeps its time when its event
// is opened again, whatever the routes say of it by then.
func TestOpenedAgainWhileScheduled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		then []dispatch.Message // the second plan
		want map[string]string
	}{
		{"planned as before", []dispatch.Message{step("reminder", dispatch.Terms{At: time.Now().Add(time.Hour)})}, map[string]string{"reminder": "scheduled"}},
		{"planned for now", []dispatch.Message{step("reminder", dispatch.Terms{})}, map[string]string{"reminder": "scheduled"}},
		{"skipped", []dispatch.Message{{Route: "r", Step: "reminder", Channel: "carrier", Recipient: "+15005550006", Skip: "when: x", Terms: &dispatch.Terms{Freeze: true}}},
			map[string]string{"reminder": "scheduled"}},
		{"planned no more", []dispatch.Message{step("other", dispatch.Terms{})}, map[string]string{"reminder": "scheduled", "other": "delivered"}},
		{"no route any more", nil, map[string]string{"": "skipped", "reminder": "scheduled"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newProvider(nil)
			plans := 0
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				if plans++; plans == 1 {
					return []dispatch.Message{step("reminder", dispatch.Terms{At: time.Now().Add(time.Hour), Deadline: time.Now().Add(2 * time.Hour)})}, nil
				}
				return tt.then, nil
			}}
			l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Lease = time.Second })
			start(t, l)
			ev := insert(t, db, "e", `{}`)
			processed(t, db, 5*time.Second)
			due := pgtest.QueryVal[time.Time](t, db, `select due_at from outbox.deliveries`)
			pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
			processed(t, db, 5*time.Second)
			wantStates(t, db, ev, tt.want)
			for _, d := range p.sent {
				if d.Step == "reminder" {
					t.Error("the reminder was sent at once")
				}
			}
			if now := pgtest.QueryVal[time.Time](t, db, `select due_at from outbox.deliveries where step = 'reminder'`); !now.Equal(due) && tt.name != "planned as before" {
				t.Errorf("due at %s, was %s", now, due)
			}
		})
	}
}
