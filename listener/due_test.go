package listener

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestDueNotedDuringASweep: a delivery that becomes known while a sweep waits for
// the database is not forgotten by it, and neither is one where the sweep fails.
func TestDueNotedDuringASweep(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	other, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `lock table outbox.state in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	swept := make(chan error, 1)
	go func() { swept <- l.sweep(t.Context(), false) }()
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
		return n == 1, "the sweep does not wait"
	})
	l.noteDue(time.Hour)
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	if at := time.Until(l.nextDueAt()); at < 59*time.Minute || at > time.Hour {
		t.Errorf("the next one is due in %s, want an hour", at)
	}

	pgtest.Exec(t, db, `alter table outbox.state rename to away`)
	if err := l.sweep(t.Context(), false); err == nil {
		t.Error("swept without a table")
	}
	if at := time.Until(l.nextDueAt()); at < 59*time.Minute || at > time.Hour {
		t.Errorf("after a failure the next one is due in %s, want an hour", at)
	}
}
