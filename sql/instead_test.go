package sql_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/sql"
)

// TestInsteadOfWhich: what is judged by one delivery of a step is not recalled because of
// another one: both statements take the same of those that there are.
func TestInsteadOfWhich(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := connect(t, db)
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	mail := uuid.MustParse("00000000-0009-8000-8000-000000000000")
	for round := range 200 {
		exec(`delete from outbox.deliveries`)
		const row = `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
			state, attempts, generation, instead_of, due_at, finished_at, claim, receipt, stuck_at)
			values ($1, $1, 9, '', now(), 'r', $2, $3, '', $4, 0, $5, $6, $7, $8, $9, $10, $11)`
		exec(row, mail, "mail", "email", "scheduled", 0, "text", "tomorrow", nil, nil, nil, nil)
		for range 1 + r.IntN(5) {
			var tail [10]byte
			for i := range tail {
				tail[i] = byte(r.Uint32())
			}
			var claim, receipt any
			if r.IntN(2) == 0 {
				claim = sql.Replaced
			}
			receipts := []any{nil, "sent", "delivered", "undelivered"}
			receipt = receipts[r.IntN(len(receipts))]
			id := fmt.Sprintf("%012x%x", 8+r.IntN(2), tail)
			channel := "sms"
			if r.IntN(6) == 0 {
				channel = "" // what cancels older events' deliveries
			}
			state := []string{"delivered", "canceled", "skipped", "expired"}[r.IntN(4)]
			exec(row, id, "text", channel, state, r.IntN(3), nil, nil, "now", claim, receipt, nil)
		}
		var state, told, code string
		var unclear bool
		var over float64
		err := conn.QueryRow(t.Context(), sql.Query("instead_of"), int64(9), "r", "text").Scan(&state, &told, &code, &unclear, &over)
		if err == pgx.ErrNoRows {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		recalled := func(state, receipt string) (n int) {
			rows, err := conn.Query(t.Context(), sql.Query("recall_instead"), []uuid.UUID{mail}, []string{state}, []string{receipt})
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				n++
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := recalled(state, told); n != 0 {
			t.Errorf("seed %d, round %d: judged by %s %s, and recalled", seed, round, state, told)
		}
		if n := recalled("sending", told); n != 1 {
			t.Errorf("seed %d, round %d: not recalled though it was sending", seed, round)
		}
	}
}
