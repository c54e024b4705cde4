package listener_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// waitsFor is a step that is rendered once those that after names are delivered.
func waitsFor(name string, terms dispatch.Terms, after ...string) dispatch.Message {
	m := step(name, terms)
	m.Recipient, m.Content = "", nil
	m.Terms.After, m.Terms.Scope = after, json.RawMessage(`{}`)
	return m
}

// TestAfterScheduled: a step waits for one that is for later, as for any other,
// and holds its event back no more than that one does.
func TestAfterScheduled(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{
			step("later", dispatch.Terms{At: time.Now().Add(time.Hour)}), waitsFor("then", dispatch.Terms{}, "later"),
			waitsFor("last", dispatch.Terms{}, "then"), step("now", dispatch.Terms{}),
		}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.PollInterval = 300 * time.Millisecond }))
	ev := insert(t, db, "e", `{}`)
	processed(t, db, 5*time.Second)
	wantStates(t, db, ev, map[string]string{"later": "scheduled", "then": "ready", "last": "ready", "now": "delivered"})
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where step = 'later'`)
	wantStates(t, db, ev, map[string]string{"later": "delivered", "then": "delivered", "last": "delivered", "now": "delivered"})
}

// TestAfterWithDeadline: a deadline does not keep a step that waits from being
// sent in time, and one that has passed meanwhile does.
func TestAfterWithDeadline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		want     string
	}{
		{"in time", time.Hour, "delivered"},
		{"too late", 100 * time.Millisecond, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newBlocker()
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{step("first", dispatch.Terms{}), waitsFor("then", dispatch.Terms{Deadline: time.Now().Add(tt.deadline)}, "first")}, nil
			}}
			start(t, newListener(t, db, routed(p, plain, r), nil))
			ev := insert(t, db, "e", `{}`)
			<-p.entered
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				return tt.deadline > time.Second || pgtest.QueryVal[bool](t, db, `select min(deadline) < clock_timestamp() from outbox.deliveries`), "the deadline has not passed"
			})
			close(p.gate)
			wantStates(t, db, ev, map[string]string{"first": "delivered", "then": tt.want})
			processed(t, db, 5*time.Second)
		})
	}
}
