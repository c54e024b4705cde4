package operate_test

import (
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestLinesThatWait: a line is listed where another event waits, or where the first has
// failed; not for several deliveries of one event, which nobody waits behind.
func TestLinesThatWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		states  []string // of the first event, each with the turn
		behind  int      // events, of one delivery each
		waiting int      // -1: it is not listed
	}{
		{"one on its way", []string{"ready"}, 0, -1},
		{"two of one event on their way", []string{"sending", "ready"}, 0, -1},
		{"two, and one has failed", []string{"retry", "ready"}, 0, 0},
		{"one that has failed", []string{"held"}, 0, 0},
		{"another event behind it", []string{"ready"}, 1, 1},
		{"two behind two", []string{"sending", "ready"}, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.insert(1+tt.behind, "quote.sent")
			const columns = `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
				state, attempts, ordering_key, line, turn_at)
				select overlay(gen_random_uuid()::text placing substr(encode(substr(int8send(seq), 3), 'hex'), 1, 8) || '-' || substr(encode(substr(int8send(seq), 3), 'hex'), 9) from 1 for 13)::uuid,
				id, seq, type, created_at, 'test', 'tell', 'carrier', 'kim', `
			pgtest.Exec(t, w.db, columns+`s.state, 1, 'k', 'k', now() + s.n * interval '1 ms' from outbox_events, unnest($1::text[]) with ordinality as s (state, n)
				where seq = (select min(seq) from outbox_events)`, tt.states)
			pgtest.Exec(t, w.db, columns+`'ready', 0, 'k', 'k', null from outbox_events where seq > (select min(seq) from outbox_events)`)
			lines, err := w.o.Lines(t.Context(), 0)
			if err != nil || (len(lines) == 1) != (tt.waiting >= 0) || len(lines) == 1 && lines[0].Waiting != tt.waiting {
				t.Errorf("%+v, %v; want %d waiting", lines, err, tt.waiting)
			}
		})
	}
}
