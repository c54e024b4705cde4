package listener

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestRecordFreshBatches: what the ledger gets does not depend on how much is the same
// in a batch, nor on those in it that were taken over.
func TestRecordFreshBatches(t *testing.T) {
	t.Parallel()
	delivered := dispatch.Outcome{State: dispatch.Delivered, Attempts: 1, Receipt: dispatch.Receipt{ProviderID: "SM1"}}
	plain := dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}
	skipped := dispatch.Outcome{State: dispatch.Skipped, Reason: "no route"}
	dead := dispatch.Outcome{State: dispatch.Dead, Attempts: 1, Err: &dispatch.Error{Channel: "c", Kind: dispatch.Rejected, Err: errors.New("no")}}
	retry := dispatch.Outcome{State: dispatch.Retry, Attempts: 2, Err: &dispatch.Error{Channel: "c", Kind: dispatch.Down, Err: errors.New("later")}}
	for _, tt := range []struct {
		name     string
		outcomes []dispatch.Outcome
		lost     []int // those that somebody else has by now
	}{
		{"one", []dispatch.Outcome{plain}, nil},
		{"one that is lost", []dispatch.Outcome{plain}, []int{0}},
		{"all the same", []dispatch.Outcome{plain, plain, plain, plain}, nil},
		{"all the same, some lost", []dispatch.Outcome{plain, plain, plain, plain}, []int{0, 2}},
		{"all lost", []dispatch.Outcome{plain, plain, plain}, []int{0, 1, 2}},
		{"of every kind", []dispatch.Outcome{delivered, skipped, dead, retry, plain}, nil},
		{"of every kind, some lost", []dispatch.Outcome{delivered, skipped, dead, retry, plain}, []int{1, 3}},
		{"the last is another", []dispatch.Outcome{plain, plain, plain, dead}, nil},
		{"the first is another", []dispatch.Outcome{retry, plain, plain, plain}, []int{3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'type ' || n, '{}' from generate_series(1, $1::integer) as n`, len(tt.outcomes))
			s := &store{pool: db.Pool, lease: time.Minute, maxPayload: 1 << 20, due: func() {}}
			claims, _, err := s.claimEvents(t.Context(), 0, top, len(tt.outcomes), 1)
			if err != nil || len(claims) != 1 || len(claims[0].events) != len(tt.outcomes) {
				t.Fatalf("%d claims, %v", len(claims), err)
			}
			events := claims[0].events
			var entries []entry
			var want []string
			for i, o := range tt.outcomes {
				e := events[i]
				m := dispatch.Message{Route: "r", Step: fmt.Sprint("s", i/3), Channel: "c", Recipient: fmt.Sprint("to ", i/2), Content: []byte(`{"n": 1}`)}
				j := e.newJob(m, 0)
				j.Attempt, j.outcome, j.wait = 1, &o, time.Minute
				e.jobs = []*job{j}
				if slices.Contains(tt.lost, i) {
					pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq = $1`, e.seq)
				} else {
					r := j.ledgerRow(time.Minute)
					want = append(want, fmt.Sprintln(e.ID, j.ID, e.seq, e.Type, m.Step, r.recipient(), o.State, o.Attempts, o.Receipt.ProviderID, outcomeText(&o), r.content != nil, r.dueIn != nil, o.State.Terminal()))
				}
				entries = append(entries, entry{event: e, rows: e.rows(time.Minute)})
			}
			kept, err := s.recordFresh(t.Context(), entries)
			if err != nil {
				t.Fatal(err)
			}
			if (kept == nil) != (len(tt.lost) == 0) {
				t.Errorf("kept %v", kept)
			}
			for i, e := range events {
				if lost := slices.Contains(tt.lost, i); kept != nil && kept[e.seq] == lost {
					t.Errorf("event %d of %d is kept: %t", i, len(events), !lost)
				}
			}
			rows, err := db.Pool.Query(t.Context(), `select event_id, id, event_seq, event_type, step, recipient, state, attempts, coalesce(provider_id, ''),
				coalesce(last_error, ''), content is not null, due_at is not null, finished_at is not null from outbox.deliveries order by event_seq`)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
				var event, id, step, recipient, state, provider, text, typ string
				var seq int64
				var attempts int
				var content, due, finished bool
				err := row.Scan(&event, &id, &seq, &typ, &step, &recipient, &state, &attempts, &provider, &text, &content, &due, &finished)
				return fmt.Sprintln(event, id, seq, typ, step, recipient, dispatch.State(state), attempts, provider, text, content, due, finished), err
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v\nthe ledger has %q\nwant           %q", err, got, want)
			}
		})
	}
}
