package listener

import (
	"context"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestWholeEventPassesTheTurn: what had the turn, and ends with the record of its event, passes
// it with that record: since the event brings listeners down, say, or its route has no order
// any more.
func TestWholeEventPassesTheTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		gone bool // the event is deleted before it is recorded
	}{
		{"its event is there", false},
		{"its event is deleted", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s := &store{pool: db.Pool, lease: time.Minute}
			pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until) values ('first', '{}', gen_random_uuid(), now() - interval '1 second')`)
			claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1)
			if err != nil || len(claims) != 1 {
				t.Fatalf("%+v, %v", claims, err)
			}
			e := claims[0].events[0]
			pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until) values ('second', '{}', gen_random_uuid(), 'infinity')`)
			m := dispatch.Message{Route: "r", Step: "s", Channel: "c", Recipient: "x", Content: []byte(`{}`)}
			pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, content, ordering_key, line, due_at, turn_at)
				select case type when 'first' then $1 else gen_random_uuid() end, id, seq, type, created_at, 'r', 's', 'c', 'x', 'ready', 0, '{}', 'k', 'k',
					case type when 'first' then now() end, case type when 'first' then now() end
				from outbox_events`, deliveryID(e.seq, e.ID, &m, 0))
			have, err := s.adopt(t.Context(), e)
			if err != nil || len(have) != 1 {
				t.Fatalf("%+v, %v", have, err)
			}
			j := e.resume(&have[0], m)
			j.outcome = &dispatch.Outcome{State: dispatch.Dead, Reason: "no"}
			e.jobs = []*job{j}
			if tt.gone {
				pgtest.Exec(t, db, `delete from outbox_events where type = 'first'`)
			}
			rec := newRecorder(t.Context(), s, quietLog(), func(entry, bool) {})
			rec.pass = func(ctx context.Context, lines []string) {
				if again, err := s.passTurns(ctx, lines, nil); err != nil || len(again) > 0 {
					t.Errorf("again in %q, %v", again, err)
				}
			}
			rec.write([]entry{{event: e, rows: e.rows(s.ttl())}})
			got := pgtest.QueryVals[string](t, db, `select event_type || ' ' || state || coalesce(' in ' || line, '') || case when due_at <= clock_timestamp() then ', due' else '' end from outbox.deliveries order by 1`)
			if len(got) != 2 || got[0] != "first dead" || got[1] != "second ready in k, due" {
				t.Errorf("%q", got)
			}
		})
	}
}
