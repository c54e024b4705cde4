package migrations_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// writers insert events without a pause, the way applications do, and
// remember which have been committed and how long an insert ever took.
type writers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu        sync.Mutex
	committed map[uuid.UUID]bool
	slowest   time.Duration
	err       error
}

func write(t *testing.T, db *pgtest.DB, n int) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{stop: cancel, committed: map[uuid.UUID]bool{}}
	for range n {
		conn := connect(t, db, "")
		w.wg.Go(func() {
			for ctx.Err() == nil {
				id := uuid.New()
				begin := time.Now()
				tx, err := conn.Begin(context.Background())
				if err == nil {
					_, err = tx.Exec(context.Background(), `insert into outbox_events (id, type, payload) values ($1, 'new', '{"a": 1}')`, id)
				}
				took := time.Since(begin)
				if err == nil {
					time.Sleep(rand.N(20 * time.Millisecond)) // the rest of its transaction
					err = tx.Commit(context.Background())
				}
				w.mu.Lock()
				w.slowest = max(w.slowest, took)
				if err != nil {
					w.err = err
				} else {
					w.committed[id] = true
				}
				w.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	return w
}

// finish stops the writers and returns how many events were committed.
func (w *writers) finish(t *testing.T) int {
	t.Helper()
	w.stop()
	w.wg.Wait()
	if w.err != nil {
		t.Errorf("a writer failed: %v", w.err)
	}
	if w.slowest > time.Second {
		t.Errorf("an insert took %v", w.slowest)
	}
	t.Logf("%d events were inserted meanwhile, the slowest took %v", len(w.committed), w.slowest)
	return len(w.committed)
}

func TestAdoptUnderLoad(t *testing.T) {
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `
		insert into outbox_events (type, payload, created_at, processed_at)
		select 'estimate.requested', jsonb_build_object('n', i, 'text', repeat('x', 50)), now() - i * interval '1 minute',
		       case when i % 10 > 0 then now() - i * interval '1 minute' end
		from generate_series(1, 100000) as i`)
	const (
		// ctid, xmin and xmax: not one of the old rows may be written again
		old  = `select md5(string_agg(ctid::text || xmin || xmax || ' ' || (id, type, payload, created_at, processed_at)::text, ',' order by id)) from outbox_events where type <> 'new'`
		file = `select pg_relation_filenode('outbox_events')::bigint`
	)
	rows, filenode := pgtest.QueryVal[string](t, db, old), pgtest.QueryVal[int64](t, db, file)

	w := write(t, db, 4)
	time.Sleep(100 * time.Millisecond) // so that some are in the middle of it
	rep, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}})
	if err != nil {
		t.Fatalf("Up: %v", err)
	}
	time.Sleep(100 * time.Millisecond)
	total := w.finish(t)

	if !rep.Adopted || rep.Created || rep.To != latest {
		t.Errorf("report %+v", rep)
	}
	if got := pgtest.QueryVal[string](t, db, old); got != rows {
		t.Error("old rows were written")
	}
	if got := pgtest.QueryVal[int64](t, db, file); got != filenode {
		t.Error("the table was rewritten")
	}
	seen := int64(0)
	for _, r := range rep.Waiting {
		if r.Type == "new" {
			seen = r.Count // those that were counted, and skipped like the old ones
		}
	}
	if n := pgtest.QueryVal[int64](t, db, `select count(*) from outbox_events where type = 'new' and seq is null`); n != seen {
		t.Errorf("%d new events have no place; %d were counted and skipped", n, seen)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type = 'new'`); n != total {
		t.Errorf("%d new events are there, %d were committed", n, total)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type <> 'new' and seq is not null`); n != 0 {
		t.Errorf("%d old events would be delivered", n)
	}
}

// TestAdoptWithoutBacklogLosesNothing: where nothing waits there is nothing
// to decide, and so every event that comes meanwhile is delivered.
func TestAdoptWithoutBacklogLosesNothing(t *testing.T) {
	for range 5 {
		db := pgtest.Empty(t)
		pgtest.Exec(t, db, appTable)
		// In the middle of its transaction, begun before the count.
		early := connect(t, db, "")
		exec(t, early, `begin; insert into outbox_events (type, payload) values ('early', '{}'); savepoint s; insert into outbox_events (type, payload) values ('early', '{}'); release s`)
		done := make(chan error, 1)
		conn := connect(t, db, "")
		go func() {
			_, err := migrations.Up(t.Context(), conn, migrations.Options{})
			done <- err
		}()
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			n := pgtest.QueryVal[int](t, db, `select count(*) from pg_locks where relation = 'outbox_events'::regclass and not granted`)
			return n > 0, "nobody waits for the table"
		})
		exec(t, early, `commit`)
		if err := <-done; err != nil {
			t.Fatalf("Up: %v", err)
		}
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where seq is not null`); n != 2 {
			t.Errorf("%d of 2 early events have a place", n)
		}
	}
}

// TestAdoptAnothersTable: the table belongs to the application's role, and a
// DBA runs the migration.
func TestAdoptAnothersTable(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	app := pgtest.Role(t, db, "app")
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `alter table outbox_events owner to `+app)
	up(t, db, migrations.Options{})
	exec(t, connect(t, db, app), `insert into outbox_events (type, payload) values ('a', '{}'); update outbox_events set processed_at = now(); update outbox_events set processed_at = null`)
	if n := pgtest.QueryVal[int](t, db, `select seq from outbox_events`); n != 2 {
		t.Errorf("seq %d", n)
	}
}

func TestBusyTable(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	before := catalog(t, db)
	holder := connect(t, db, "")
	exec(t, holder, `set application_name = 'a long report'; begin; select count(*) from outbox_events`)

	var said []string
	opt := quick
	opt.Progress = func(s string) { said = append(said, s) }
	_, err := migrations.Up(t.Context(), connect(t, db, ""), opt)
	locked, ok := errors.AsType[*migrations.LockedError](err)
	if !ok {
		t.Fatalf("Up: %v; want a LockedError", err)
	}
	pid := int(holder.PgConn().PID())
	if len(locked.Holders) != 1 || locked.Holders[0].PID != pid || locked.Holders[0].Application != "a long report" || locked.Holders[0].Age <= 0 {
		t.Errorf("holders %v, want pid %d", locked.Holders, pid)
	}
	wantError(t, err, "0003_events_columns.sql", "idle in transaction", "nothing was left half done", "--lock-timeout")
	if len(said) != 1 {
		t.Errorf("progress %q", said)
	}
	if locked.Waited > 3*time.Second {
		t.Errorf("gave up after %v", locked.Waited)
	}
	// The ledger is there; the table is as it was.
	if n := pgtest.QueryVal[int](t, db, `select count(*) from information_schema.columns where table_name = 'outbox_events'`); n != 5 {
		t.Errorf("%d columns", n)
	}
	if lost := onlyIn(before, catalog(t, db)); lost != "" {
		t.Errorf("changed:\n%s", lost)
	}

	// Readers and writers are let through while somebody waits for his turn.
	exec(t, holder, `commit`)
	up(t, db, quick)
}

func TestReadersAndWritersPassWhileWaiting(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	holder := connect(t, db, "")
	exec(t, holder, `begin; select count(*) from outbox_events`)
	w := write(t, db, 2)
	_, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{Wait: 2 * time.Second, Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}})
	if _, ok := errors.AsType[*migrations.LockedError](err); !ok {
		t.Errorf("Up: %v; want a LockedError", err)
	}
	if n := w.finish(t); n < 20 {
		t.Errorf("only %d events were inserted in the meantime", n)
	}
	exec(t, holder, `commit`)
}
