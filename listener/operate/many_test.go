package operate_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// dead puts n deliveries into the ledger that were not taken, all of one event, to
// one address.
func dead(w *world, n int) {
	w.t.Helper()
	pgtest.Exec(w.t, w.db, `insert into outbox_events (type, payload, processed_at) values ('quote.sent', '{}', now())`)
	pgtest.Exec(w.t, w.db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at, stuck_at, content)
		select overlay(overlay(gen_random_uuid()::text placing left(encode(substr(int8send(seq), 3), 'hex'), 8) from 1) placing right(encode(substr(int8send(seq), 3), 'hex'), 4) from 10)::uuid,
			id, seq, type, created_at, 'each', 'tell', 'carrier', '***', 'dead', 0, now(), now(), '{}'
		from outbox_events, generate_series(1, $1::integer)`, n)
}

// TestReplayToOneAddress: several deliveries of a step may go to one address, and
// each of them can be replayed, beyond the end of a batch as well.
func TestReplayToOneAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dead(w, 700)
	f := operate.Filter{Types: []string{"quote.sent"}}
	one := pgtest.QueryVal[uuid.UUID](t, w.db, `select min(id::text)::uuid from outbox.deliveries`)
	if res := w.do(operate.Request{Action: operate.Replay, Filter: operate.Filter{IDs: []uuid.UUID{one}}}); res.Done != 1 {
		t.Fatalf("%+v", res)
	}
	look := w.do(operate.Request{Action: operate.Replay, Filter: f, DryRun: true})
	res := w.do(operate.Request{Action: operate.Replay, Filter: f})
	if look.Done != 699 || res.Done != 699 || len(res.Refused) != 1 || res.Refused[0] != (operate.Refusal{Reason: "there is a newer delivery in its place", Count: 1}) {
		t.Errorf("%d of 699 were to be replayed, %d are: %+v", look.Done, res.Done, res.Refused)
	}
	if n := w.count(`generation = 1`); n != 700 {
		t.Errorf("%d replays", n)
	}
	// No transaction has more than a batch, and each has its line.
	lines := pgtest.QueryVals[int](t, w.db, `select count from outbox.audit order by id`)
	if fmt.Sprint(lines) != "[1 499 200]" {
		t.Errorf("the audit has %v", lines)
	}
}

// TestResumeBatches: what a pause kept back is made due part by part, so that
// nobody waits for a lock on all of it, and it needs no time that is bounded.
func TestResumeBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	n := 2*listener.ResumeBatch + 500
	pause := operate.PauseRequest{Action: operate.Pause, Channels: []string{"carrier"}, By: kim}
	if _, err := w.o.Pause(t.Context(), pause); err != nil {
		t.Fatal(err)
	}
	dead(w, n)
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'ready', finished_at = null, stuck_at = null, due_at = now() + interval '5 minutes', last_error = $1`,
		listener.PausedBy("channel", "carrier"))
	pause.Action = operate.Resume
	if res, err := w.o.Pause(t.Context(), pause); err != nil || res.Deliveries != n {
		t.Fatalf("%+v, %v", res, err)
	}
	if late := w.count(`due_at > now()`); late != 0 {
		t.Errorf("%d are not due", late)
	}
	if parts := pgtest.QueryVal[int](t, w.db, `select count(distinct xmin::text) from outbox.deliveries`); parts != 3 {
		t.Errorf("made due in %d transactions", parts)
	}
}

// TestReplayAndANewerEvent: one that is being planned while a replay begins is seen
// by it, or sees it.
func TestReplayAndANewerEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dead(w, 1)
	pgtest.Exec(t, w.db, `update outbox.deliveries set supersedes = 'quote 7'`)
	tx, err := w.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	// As listener/freeze.go does it.
	if _, err := tx.Exec(t.Context(), `select pg_advisory_xact_lock(hashtextextended('outbox supersedes ' || 'quote 7', 0))`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, supersedes)
		select gen_random_uuid(), gen_random_uuid(), event_seq + 1, event_type, now(), route, step, channel, recipient, 'ready', 0, supersedes from outbox.deliveries`); err != nil {
		t.Fatal(err)
	}
	done := make(chan operate.Result, 1)
	go func() {
		res, err := w.o.Do(context.Background(), operate.Request{Action: operate.Replay, By: kim, Filter: operate.Filter{States: []dispatch.State{"dead"}}})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return len(done) > 0 || waiting(t, w) > 0, "the replay neither waits nor ends"
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := <-done; res.Done != 0 || len(res.Refused) != 1 || res.Refused[0].Reason != "superseded by a newer event" {
		t.Errorf("%+v", res)
	}
}

// waiting is how many sessions of the database wait for a lock.
func waiting(t testing.TB, w *world) int {
	t.Helper()
	return pgtest.QueryVal[int](t, w.db, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
}

// TestDeadlock: where somebody locks rows in another order, as people do by hand,
// what was asked for is done all the same.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dead(w, 2)
	ids := pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries order by id`)
	tx, err := w.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	// The other one is to give way.
	if _, err := tx.Exec(t.Context(), `set local deadlock_timeout = '1min'`); err != nil {
		t.Fatal(err)
	}
	lock := func(id uuid.UUID) {
		if _, err := tx.Exec(t.Context(), `select from outbox.deliveries where id = $1 for no key update`, id); err != nil {
			t.Fatal(err)
		}
	}
	lock(ids[1])
	done := make(chan operate.Result, 1)
	go func() {
		res, err := w.o.Do(context.Background(), operate.Request{Action: operate.Replay, By: kim, Filter: operate.Filter{IDs: ids}})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return waiting(t, w) > 0, "nobody waits" })
	lock(ids[0])
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := <-done; res.Done != 2 || w.count(`generation = 1`) != 2 {
		t.Errorf("%+v", res)
	}
	if due := pgtest.QueryVal[float64](t, w.db, `select extract(epoch from max(due_at) - now())::float8 from outbox.deliveries where generation = 1`); due > 0.15 {
		t.Errorf("the last one is due in %g s: a try that came to nothing counts", due)
	}
}
