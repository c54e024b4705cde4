package listener

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestSweepNeedsNoWorkers: the server starts no processes for a sweep, also once it
// knows that nothing is paused or braked.
func TestSweepNeedsNoWorkers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, table := range []string{"outbox.pauses", "outbox.brakes", "outbox.deliveries", "outbox.state"} {
		pgtest.Exec(t, db, `vacuum analyze `+table)
	}
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), settings, durable, walks.nested, walks.hashed, walks.cache); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "explain "+sqlNextDue, "")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if plan := strings.Join(lines, "\n"); strings.Contains(plan, "Gather") {
		t.Errorf("the plan is\n%s", plan)
	}
}
