package listener

import (
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestAdoptedAndLeft: a listener takes over what the ledger has of an event that stands in a
// line; the event is deleted then, and the listener ends before it has recorded anything. The
// turn passes to what it had taken over, so that the line goes on.
func TestAdoptedAndLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		stands map[string]string // how the steps stand when the event is claimed
		want   string            // what became of them when another listener ran
	}{
		{"waiting for its turn", map[string]string{"only": "state = 'ready'"}, "only delivered"},
		{"held", map[string]string{"only": "state = 'held', stuck_at = now()"}, "only held"},
		{"with a step that waits for another", map[string]string{"first": "state = 'ready'", "then": "state = 'ready', after_steps = '{first}'"}, "first delivered, then delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, e := takenOver(t, db)
			for name, stands := range tt.stands {
				m := dispatch.Message{Route: "r", Step: name, Channel: "c"}
				pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, content)
					select $1, id, seq, type, created_at, 'r', $2, 'c', '', 'ready', 0, null, '{}' from outbox_events`, deliveryID(e.seq, e.ID, &m, 0), name)
				pgtest.Exec(t, db, `update outbox.deliveries set ordering_key = 'k', line = 'k', `+stands+` where step = $1`, name)
			}
			if have, err := s.adopt(t.Context(), e); err != nil || len(have) != len(tt.stands) {
				t.Fatalf("adopted %d, %v", len(have), err)
			}
			pgtest.Exec(t, db, `delete from outbox_events`)
			d := dispatch.New()
			d.Register("c", senderFunc(func(*dispatch.Delivery) error { return nil }), dispatch.Policy{})
			l, err := New(Config{Pool: db.Pool, Dispatcher: d, Log: quietLog()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Once(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(pgtest.QueryVals[string](t, db, `select step || ' ' || state from outbox.deliveries order by step`), ", "); got != tt.want {
				t.Errorf("became %s, want %s", got, tt.want)
			}
		})
	}
}
