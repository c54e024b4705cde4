package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestSeqTrigger(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, seq) values ('a', '{}', null), ('b', '{}', null)`)
	pgtest.Exec(t, db, `insert into outbox_events select gen_random_uuid(), type, payload, now(), null, null, null, null from outbox_events`)
	if got := fmt.Sprint(pgtest.QueryVals[int](t, db, `select seq from outbox_events order by seq`)); got != "[1 2 3 4]" {
		t.Errorf("seqs %s", got)
	}
	if _, err := db.Pool.Exec(t.Context(), `insert into outbox_events (type, payload, seq) values ('a', '{}', 1)`); err == nil {
		t.Error("a place was given twice")
	}
}

func TestReopenTrigger(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('a', '{}'), ('b', '{}')`)
	pgtest.Exec(t, db, `
		insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at)
		select gen_random_uuid(), id, seq, type, created_at, '', step, 'sms', '', 'delivered', 1, now()
		from outbox_events, unnest(array['1', '2']) as step`)
	const look = `select string_agg(e.type || ':' || e.seq || ':' || d.event_seq || ':' || coalesce(e.lease_until::text, '-'), ' ' order by e.type, d.step)
		from outbox_events as e join outbox.deliveries as d on d.event_id = e.id`
	for _, step := range []struct{ sql, want string }{
		{`update outbox_events set processed_at = now(), lease_until = null`, "a:1:1:- a:1:1:- b:2:2:- b:2:2:-"},
		{`update outbox_events set processed_at = now()`, "a:1:1:- a:1:1:- b:2:2:- b:2:2:-"},
		{`update outbox_events set processed_at = null where type = 'a'`, "a:3:3:- a:3:3:- b:2:2:- b:2:2:-"},
		{`update outbox_events set processed_at = null where type = 'a'`, "a:3:3:- a:3:3:- b:2:2:- b:2:2:-"},
		{`update outbox_events set lease_until = 'infinity' where type = 'a'`, "a:3:3:infinity a:3:3:infinity b:2:2:- b:2:2:-"},
		{`update outbox_events set processed_at = now() where type = 'a'`, "a:3:3:infinity a:3:3:infinity b:2:2:- b:2:2:-"},
		{`update outbox_events set processed_at = null where type = 'b'`, "a:3:3:infinity a:3:3:infinity b:4:4:- b:4:4:-"},
		{`update outbox_events set processed_at = null`, "a:5:5:- a:5:5:- b:4:4:- b:4:4:-"},
	} {
		pgtest.Exec(t, db, step.sql)
		if got := pgtest.QueryVal[string](t, db, look); got != step.want {
			t.Errorf("after %s:\n got %s\nwant %s", step.sql, got, step.want)
		}
	}

	// Somebody who may mark events and has no other rights can do it too.
	role := pgtest.Role(t, db, "app")
	pgtest.Exec(t, db, `grant select, update (processed_at) on outbox_events to `+role)
	conn := connect(t, db, role)
	exec(t, conn, `update outbox_events set processed_at = now()`)
	exec(t, conn, `update outbox_events set processed_at = null where type = 'a'`)
	if got := pgtest.QueryVal[int](t, db, `select seq from outbox_events where type = 'a'`); got != 6 {
		t.Errorf("seq %d", got)
	}
}

func TestWakeTrigger(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	listener, app := connect(t, db, ""), connect(t, db, "")
	exec(t, listener, `listen outbox_events`)
	notified := func() bool {
		t.Helper()
		// What was sent before this statement has come with its answer.
		exec(t, listener, `select 1`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		n, err := listener.WaitForNotification(ctx)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return n != nil
	}
	insert := func(rows int) {
		t.Helper()
		exec(t, app, `insert into outbox_events (type, payload) select 'a', '{}' from generate_series(1, $1::integer)`, rows)
	}
	gate := func(wait int) bool {
		t.Helper()
		var open bool
		if err := listener.QueryRow(t.Context(), `select outbox.gate_open($1)`, wait).Scan(&open); err != nil {
			t.Fatal(err)
		}
		return open
	}

	insert(1)
	if notified() {
		t.Error("woken although awake")
	}
	if !gate(100) {
		t.Fatal("the gate is not to be had")
	}
	insert(5)
	if !notified() {
		t.Error("not woken")
	}
	if notified() {
		t.Error("woken twice by one statement")
	}
	exec(t, listener, `select pg_advisory_unlock(7206178340117325153)`)

	// Going to sleep waits for whoever was silent, as long as it is told to.
	exec(t, app, `begin`)
	insert(1)
	begin := time.Now()
	if gate(50) {
		t.Error("fell asleep over a silent insert")
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("waited %v only", took)
	}
	exec(t, app, `commit`)
	if !gate(1000) {
		t.Error("the gate is not to be had after the commit")
	}
	var timeout string
	if err := listener.QueryRow(t.Context(), `show lock_timeout`).Scan(&timeout); err != nil || timeout != "0" {
		t.Errorf("lock_timeout %s is left, %v", timeout, err)
	}

	// A transaction that takes its insert back does not keep the gate.
	exec(t, listener, `select pg_advisory_unlock(7206178340117325153)`)
	for _, iso := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		tx, err := app.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: iso})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `savepoint s; insert into outbox_events (type, payload) values ('a', '{}'); rollback to s`); err != nil {
			t.Fatal(err)
		}
		if !gate(1000) {
			t.Errorf("%s: the gate is kept by an insert that was taken back", iso)
		}
		exec(t, listener, `select pg_advisory_unlock(7206178340117325153)`)
		if err := tx.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
