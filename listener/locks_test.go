package listener_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// inAnHour is the answer of a provider that wants to be left alone: the
// delivery waits in the ledger until a test makes it due.
func inAnHour(*dispatch.Delivery) error {
	return &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: time.Hour, Err: fmt.Errorf("too fast")}
}

// lock begins a transaction that holds what sql locks, and returns its end.
func lock(t testing.TB, db *pgtest.DB, sql string) (release func()) {
	t.Helper()
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release = func() { _ = tx.Rollback(context.Background()) } // a second time does nothing
	t.Cleanup(release)
	if _, err := tx.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return release
}

// TestLockedRowLetsNeighboursPass: while the application holds the row of one
// event, its outcome waits, and those of the others do not.
func TestLockedRowLetsNeighboursPass(t *testing.T) {
	t.Parallel()
	db, d, p, busy := pgtest.New(t), dispatch.New(), newProvider(nil), newProvider(inAnHour)
	channel(d, "greeting", "carrier", p, plain)
	channel(d, "retries", "busy", busy, plain)
	id := insert(t, db, "retries", `{}`)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond })
	start(t, l)
	listening(t, l)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'retry'`)
		return n == 1, fmt.Sprintf("%d retries", n)
	})
	release := lock(t, db, `select from outbox_events where type = 'retries' for update`)
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now()`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return busy.count() == 2, fmt.Sprintf("tried %d times", busy.count())
	})
	for range 5 {
		insert(t, db, "greeting", `{}`)
	}
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type = 'greeting' and processed_at is not null`)
		return n == 5, fmt.Sprintf("%d of 5 neighbours passed", n)
	})
	if got := ledgerOf(t, db, id); got.Attempts != 1 {
		t.Errorf("recorded beside the lock: %+v", got)
	}
	release()
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		got := ledgerOf(t, db, id)
		return got.State == "retry" && got.Attempts == 2, fmt.Sprintf("%+v", got)
	})
	if p.count() != 5 || busy.count() != 2 {
		t.Errorf("sent %d and %d, want 5 and 2", p.count(), busy.count())
	}
}

// batches counts what a pool sends.
type batches struct{ n atomic.Int64 }

func (b *batches) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (b *batches) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (b *batches) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	b.n.Add(1)
	return ctx
}
func (b *batches) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (b *batches) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestLockedDueDeliveryIsAwaited: a delivery that is due and held by somebody
// else's transaction is asked for now and then, not without pause.
func TestLockedDueDeliveryIsAwaited(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(d *dispatch.Delivery) error {
		if d.Attempt == 1 {
			return inAnHour(d)
		}
		return nil
	})
	channel(d, "greeting", "carrier", p, plain)
	insert(t, db, "greeting", `{}`)
	if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now()`)
	release := lock(t, db, `select from outbox.deliveries for update`)

	var asked batches
	l := newListener(t, db, d, func(c *listener.Config) {
		pc, err := pgxpool.ParseConfig(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		pc.ConnConfig.Tracer = &asked
		if c.Pool, err = pgxpool.NewWithConfig(t.Context(), pc); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Pool.Close)
	})
	start(t, l)
	listening(t, l)
	begun, before := time.Now(), asked.n.Load()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		took := time.Since(begun)
		return took > 2*time.Second, took.String()
	})
	rate := float64(asked.n.Load()-before) / time.Since(begun).Seconds()
	t.Logf("%.0f transactions a second", rate)
	if rate > 60 { // a few for each dueAgain, and the upkeep of the marks
		t.Errorf("%.0f transactions a second with nothing to do", rate)
	}
	release()
	processed(t, db, 5*time.Second)
	if p.count() != 2 {
		t.Errorf("%d sent, want 2", p.count())
	}
}

// TestInfiniteDueLetsNeighboursPass: an operator may park a delivery for ever;
// nobody else waits for it.
func TestInfiniteDueLetsNeighboursPass(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		due  string
		sent int // the parked one, in all
	}{
		{"infinity", 1},
		{"-infinity", 2},
	} {
		t.Run(tt.due, func(t *testing.T) {
			t.Parallel()
			db, d, p, busy := pgtest.New(t), dispatch.New(), newProvider(nil), newProvider(inAnHour)
			channel(d, "greeting", "carrier", p, plain)
			channel(d, "retries", "busy", busy, plain)
			insert(t, db, "retries", `{}`)
			if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, db, `update outbox.deliveries set due_at = $1::text::timestamptz`, tt.due)
			insert(t, db, "greeting", `{}`)
			if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
				t.Errorf("Once: %v", err)
			}
			if p.count() != 1 || busy.count() != tt.sent {
				t.Errorf("sent the neighbour %d times and the parked one %d times, want 1 and %d", p.count(), busy.count(), tt.sent)
			}
		})
	}
}
