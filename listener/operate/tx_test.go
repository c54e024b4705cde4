package operate

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// TestNobodyWaitsForUsForLong: whatever the database has set, and also where our
// process is stopped between two statements.
func TestNobodyWaitsForUsForLong(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for mode, statement := range map[pgx.TxAccessMode]string{pgx.ReadOnly: "2min", pgx.ReadWrite: "10s"} {
		err := New(db.Pool).tx(t.Context(), mode, func(tx pgx.Tx) error {
			for name, want := range map[string]string{"statement_timeout": statement, "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s"} {
				var got string
				if err := tx.QueryRow(t.Context(), `select current_setting($1)`, name).Scan(&got); err != nil || got != want {
					t.Errorf("%s, %s: %s, want %s; %v", mode, name, got, want, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
