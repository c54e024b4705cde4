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

// TestLinesThatWaitForAPlan: a line in which nobody has the turn, since an event below the first
// one is not planned, is listed with that event once it has stood for a while.
func TestLinesThatWaitForAPlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		ordered []string // the types that may come into a line; nil where nobody knows
		prepare string
		listed  bool
	}{
		{"of a type in order", []string{"quote.*"}, ``, true},
		{"of a type that is not", []string{"quote", "quot_.sent"}, ``, false},
		{"no type is", []string{}, ``, false},
		{"nobody knows", nil, ``, false},
		{"planned", []string{"quote.*"}, `update outbox_events set lease_until = 'infinity'`, false},
		{"processed", []string{"quote.*"}, `update outbox_events set processed_at = now()`, false},
		{"with the turn", []string{"quote.*"}, `update outbox.deliveries set turn_at = now()`, false},
		{"for a moment", []string{"quote.*"}, `update outbox.deliveries set created_at = now()`, false},
		{"a later event", []string{"quote.*"}, `update outbox.deliveries set event_seq = event_seq - 2`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			if tt.ordered != nil {
				w.o.Ordered = func() []string { return tt.ordered }
			}
			w.insert(2, "quote.sent")
			pgtest.Exec(t, w.db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
				state, attempts, ordering_key, line, created_at)
				select gen_random_uuid(), id, seq, type, created_at, 'test', 'tell', 'carrier', 'kim', 'ready', 0, 'k', 'k', now() - interval '1 minute'
				from outbox_events order by seq desc limit 1`)
			pgtest.Exec(t, w.db, `update outbox_events set lease_until = 'infinity' where seq = (select max(seq) from outbox_events)`)
			if tt.prepare != "" {
				pgtest.Exec(t, w.db, tt.prepare)
			}
			lines, err := w.o.Lines(t.Context(), 0)
			first := pgtest.QueryVal[string](t, w.db, `select id::text from outbox_events order by seq limit 1`)
			switch {
			case err != nil || len(lines) == 1 != tt.listed || len(lines) > 1:
				t.Errorf("%+v, %v; want it listed: %t", lines, err, tt.listed)
			case tt.listed && (lines[0].WaitsFor == nil || lines[0].WaitsFor.Event.String() != first || lines[0].WaitsFor.Type != "quote.sent"):
				t.Errorf("it waits for %+v, want %s", lines[0].WaitsFor, first)
			}
		})
	}
}
