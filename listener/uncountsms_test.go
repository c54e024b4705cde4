package listener

import (
	"context"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestCountsAreLockedInOneOrder: who counts an SMS and who takes one back of the same
// number lock the number first and then the day. In two orders they would wait for
// each other, until the server ends one of them.
func TestCountsAreLockedInOneOrder(t *testing.T) {
	t.Parallel()
	const to = "+12025550101"
	db, limits := pgtest.New(t), SMSLimits{PerNumber: 10, PerDay: 100}
	s := &store{pool: db.Pool, lease: time.Minute}
	if over, err := s.countSMS(t.Context(), to, limits); err != nil || over != "" {
		t.Fatal(over, err)
	}
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `select from outbox.sms_counts where key = $1 for update`, smsKey(to)); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() { taken <- s.uncountSMS(t.Context(), to, limits) }()
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
		return n == 1, "nobody waits for the number"
	})
	if _, err := tx.Exec(t.Context(), `select from outbox.sms_counts where key like 'day %' for update nowait`); err != nil {
		t.Errorf("the day is locked before the number: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	if got := pgtest.QueryVal[string](t, db, `select sum(count) || ' ' || sum(cardinality(times)) from outbox.sms_counts`); got != "0 0" {
		t.Errorf("%s are counted still", got)
	}
}
