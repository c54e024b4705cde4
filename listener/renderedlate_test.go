package listener_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestRenderedLate: where a step goes that is rendered when its turn comes is known
// only then. Brakes and rates hold for it all the same.
func TestRenderedLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		braked bool
		rates  map[dispatch.Channel]listener.Rate
		want   string // the state of the second step
		sent   int
	}{
		{"neither", false, nil, "delivered", 2},
		{"braked", true, nil, "ready", 1},
		{"a rate", false, map[dispatch.Channel]listener.Rate{"later": {Count: 10, Per: time.Second}}, "delivered", 2},
		{"both", true, map[dispatch.Channel]listener.Rate{"later": {Count: 10, Per: time.Second}}, "ready", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if tt.braked {
				pgtest.Exec(t, db, `insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('later', '', 1, now() + interval '1 hour', now() + interval '1 hour')`)
			}
			p := newProvider(nil)
			d := routed(p, provided, router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				second := step("second", dispatch.Terms{After: []string{"first"}, Scope: json.RawMessage(`{}`)})
				second.Channel, second.Content = "later", nil
				return []dispatch.Message{step("first", dispatch.Terms{}), second}, nil
			}})
			d.Register("later", p, provided)
			l := newListener(t, db, d, func(c *listener.Config) {
				c.PollInterval, c.Rates = 200*time.Millisecond, tt.rates
			})
			start(t, l)
			ev := insert(t, db, "a", `{}`)
			wantStates(t, db, ev, map[string]string{"first": "delivered", "second": tt.want})
			if tt.braked {
				pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
					why := pgtest.QueryVal[string](t, db, `select coalesce(last_error, '') from outbox.deliveries where step = 'second'`)
					return why == listener.HeldBy("later"), why
				})
			}
			if p.count() != tt.sent {
				t.Errorf("%d sent, want %d", p.count(), tt.sent)
			}
		})
	}
}
