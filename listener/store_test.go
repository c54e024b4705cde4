package listener

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestTransactionHasADeadline: what is asked within a transaction ends with its
// time, whether the database answers or not.
func TestTransactionHasADeadline(t *testing.T) {
	t.Parallel()
	s := &store{pool: pgtest.New(t).Pool}
	begun := time.Now()
	err := s.inTx(t.Context(), 300*time.Millisecond, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select pg_sleep(9)`)
		return err
	})
	if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}
