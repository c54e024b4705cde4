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
	for _, b := range []freshBatch{
		{name: "one", outcomes: []dispatch.Outcome{plain}},
		{name: "one that is lost", outcomes: []dispatch.Outcome{plain}, lost: []int{0}},
		{name: "all the same", outcomes: []dispatch.Outcome{plain, plain, plain, plain}},
		{name: "all the same, some lost", outcomes: []dispatch.Outcome{plain, plain, plain, plain}, lost: []int{0, 2}},
		{name: "all lost", outcomes: []dispatch.Outcome{plain, plain, plain}, lost: []int{0, 1, 2}},
		{name: "of every kind", outcomes: []dispatch.Outcome{delivered, skipped, dead, retry, plain}},
		{name: "of every kind, some lost", outcomes: []dispatch.Outcome{delivered, skipped, dead, retry, plain}, lost: []int{1, 3}},
		{name: "the last is another", outcomes: []dispatch.Outcome{plain, plain, plain, dead}},
		{name: "the first is another", outcomes: []dispatch.Outcome{retry, plain, plain, plain}, lost: []int{3}},
	} {
		for _, b.alike = range []bool{false, true} {
			for _, b.between = range []int{0, 1, 5} {
				b := b
				t.Run(fmt.Sprintf("%s/alike=%t/between=%d", b.name, b.alike, b.between), func(t *testing.T) {
					t.Parallel()
					b.run(t)
				})
			}
		}
	}
}

// freshBatch is a batch of fresh records.
type freshBatch struct {
	name     string
	outcomes []dispatch.Outcome
	lost     []int // those that somebody else has by now
	alike    bool  // all are of one step
	between  int   // events of the same claim after each that are no part of it
}

func (b freshBatch) step(i int) string {
	if b.alike {
		return "s"
	}
	return fmt.Sprint("s", i/3)
}

func (b freshBatch) run(t *testing.T) {
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'type ' || n, '{}' from generate_series(1, $1::integer) as n`, len(b.outcomes)*(1+b.between))
	s := &store{pool: db.Pool, lease: time.Minute, maxPayload: 1 << 20, due: func() {}}
	claims, _, err := s.claimEvents(t.Context(), 0, top, len(b.outcomes)*(1+b.between), 1)
	if err != nil || len(claims) != 1 || len(claims[0].events) != len(b.outcomes)*(1+b.between) {
		t.Fatalf("%d claims, %v", len(claims), err)
	}
	var events, others []*event
	for i, e := range claims[0].events {
		if i%(1+b.between) == 0 {
			events = append(events, e)
		} else {
			others = append(others, e)
		}
	}
	var entries []entry
	var want []string
	for i, o := range b.outcomes {
		e := events[i]
		m := dispatch.Message{Route: "r", Step: b.step(i), Channel: "c", Recipient: fmt.Sprint("to ", i/2), Content: []byte(`{"n": 1}`)}
		j := e.newJob(m, 0)
		j.Attempt, j.outcome, j.wait = 1, &o, time.Minute
		e.jobs = []*job{j}
		if slices.Contains(b.lost, i) {
			pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq = $1`, e.seq)
		} else {
			r := j.ledgerRow(time.Minute)
			want = append(want, fmt.Sprintln(e.ID, j.ID, e.seq, e.Type, m.Step, r.recipient(), o.State, o.Attempts, o.Receipt.ProviderID, outcomeText(&o), r.content != nil, r.dueIn != nil, o.State.Terminal()))
		}
		entries = append(entries, entry{event: e, rows: e.rows(time.Minute)})
	}
	c := freshColumns(len(entries))
	for _, en := range entries {
		c.add(en.rows[0])
	}
	simple := !slices.ContainsFunc(b.outcomes, func(o dispatch.Outcome) bool { return o.State != dispatch.Delivered || o.Receipt.ProviderID != "" })
	if got, want := c.alikeArgs(nil) != nil, simple && (b.between < 2 || len(b.outcomes) == 1) && (b.alike || len(b.outcomes) < 4); got != want {
		t.Errorf("by record_alike.sql: %t, want %t", got, want)
	}
	kept, err := s.recordFresh(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	if (kept == nil) != (len(b.lost) == 0) {
		t.Errorf("kept %v", kept)
	}
	for i, e := range events {
		if lost := slices.Contains(b.lost, i); kept != nil && kept[e.seq] == lost {
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
	for _, e := range others {
		if !pgtest.QueryVal[bool](t, db, `select processed_at is null and lease_until is not null and claim = $2 from outbox_events where seq = $1`, e.seq, [16]byte(e.lease.claim)) {
			t.Errorf("event %d, which was not recorded, is not as it was", e.seq)
		}
	}
}
