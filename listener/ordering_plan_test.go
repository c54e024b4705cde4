package listener_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/sql"
)

// TestTurnsWalkTheLine: with 100,000 deliveries that wait in one line, the statement that
// passes the turn, and the one that looks for lines without one, read a few pages, and
// nobody has analyzed the tables.
func TestTurnsWalkTheLine(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox.deliveries
			(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, ordering_key, line)
		select gen_random_uuid(), gen_random_uuid(), n, 'ordered.s', now(), 'r', 's', 'log', '', 'ready', 0, 'giant', 'giant'
		from generate_series(1, 100000) as n`)
	for _, tt := range []struct {
		query string
		args  []any
	}{
		{"pass_turns", []any{[]string{"giant", "nobody"}, []string{"ordered.%"}}},
		{"stalled_lines", []any{"", 1000}},
	} {
		t.Run(tt.query, func(t *testing.T) {
			tx, err := db.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			for _, off := range []string{"seqscan", "bitmapscan", "mergejoin", "hashjoin"} {
				if _, err := tx.Exec(t.Context(), "set local enable_"+off+" = off"); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := tx.Query(t.Context(), "explain (analyze, costs off, timing off) "+sql.Query(tt.query), tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			t.Log(plan)
			if !strings.Contains(plan, "deliveries_line") || strings.Contains(plan, "Seq Scan on deliveries") {
				t.Error("the plan does not walk the line")
			}
			for _, line := range lines {
				// Within a line everything is found by the turn: event_seq comes after it in
				// the index.
				if strings.Contains(line, "Index Cond: ((line = ") && strings.Contains(line, "event_seq") && !strings.Contains(line, "turn_at") {
					t.Errorf("it reads the whole line: %s", line)
				}
				if strings.Contains(line, "Rows Removed by Filter: ") && len(line[strings.LastIndex(line, " ")+1:]) > 3 {
					t.Errorf("it walks past others: %s", line)
				}
			}
		})
	}
}
