package listener

import (
	"context"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestRecordedAsHeld: what becomes of a delivery that is recorded as held, by how it
// stands then, whichever statement records it.
func TestRecordedAsHeld(t *testing.T) {
	t.Parallel()
	records := map[string]func(context.Context, *store, *event, *job) error{
		"with its event": func(ctx context.Context, s *store, e *event, j *job) error {
			_, err := s.recordEvents(ctx, []entry{{event: e, rows: []row{j.ledgerRow(s.lease)}}})
			return err
		},
		"without its event": func(ctx context.Context, s *store, e *event, j *job) error {
			if _, err := s.pool.Exec(ctx, `delete from outbox_events`); err != nil {
				return err
			}
			_, err := s.recordOrphans(ctx, []entry{{event: e, rows: []row{j.ledgerRow(s.lease)}}})
			return err
		},
		"by itself": func(ctx context.Context, s *store, _ *event, j *job) error {
			_, err := s.recordDeliveries(ctx, []entry{{job: j}})
			return err
		},
	}
	for _, tt := range []struct{ name, stands, want string }{
		{"nobody knows", "state = 'sending'", "held, stuck since now"},
		{"reported meanwhile", "state = 'sending', provider_id = 'SM1'", "uncertain, due now"},
		{"held by a person", "state = 'held', held_from = 'retry', stuck_at = '2020-01-01'", "held from retry, stuck since 2020"},
		{"held by a person, and reported", "state = 'held', held_from = 'retry', stuck_at = '2020-01-01', provider_id = 'SM1'", "held from retry, stuck since 2020"},
		{"held by hand, and reported", "state = 'held', provider_id = 'SM1'", "held, stuck since now"},
		{"released by hand", "state = 'ready', held_from = 'retry'", "held, stuck since now"},
		{"released by hand, and reported", "state = 'ready', held_from = 'retry', provider_id = 'SM1'", "uncertain, due now"},
		{"taken over, held by hand, and reported", "state = 'held', provider_id = 'SM1', claim = gen_random_uuid()", "held"},
	} {
		for how, record := range records {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				s, events := claimTwo(t, db)
				e := events[0]
				j := e.newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c"}, 0)
				pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, claim, content)
					select $2, id, seq, type, created_at, 'r', 's', 'c', '', 'sending', 1, claim, '{}' from outbox_events where seq = $1`, e.seq, j.ID)
				pgtest.Exec(t, db, `update outbox.deliveries set `+tt.stands)
				j.outcome = &dispatch.Outcome{State: dispatch.Held, Reason: "may have arrived", Attempts: 1}
				if err := record(t.Context(), s, e, j); err != nil {
					t.Fatal(err)
				}
				got := pgtest.QueryVal[string](t, db, `select state || coalesce(' from ' || held_from, '')
					|| case when due_at is null then '' when due_at <= clock_timestamp() then ', due now' else ', due later' end
					|| case when stuck_at is null then '' when stuck_at > now() - interval '1 minute' then ', stuck since now' else ', stuck since ' || extract(year from stuck_at) end
					from outbox.deliveries`)
				if got != tt.want {
					t.Errorf("%s; want %s", got, tt.want)
				}
			})
		}
	}
}
