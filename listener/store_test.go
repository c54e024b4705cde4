package listener

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

// TestDeafServerHasADeadline: a server that says nothing costs seconds, and not as
// long as it likes.
func TestDeafServerHasADeadline(t *testing.T) {
	t.Parallel()
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close() // what the system has taken for it hears nothing
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@"+deaf.Addr().String()+"/none?sslmode=disable&connect_timeout=0")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := &store{pool: pool}
	answer := make(chan error, 1)
	go func() {
		answer <- s.tx(t.Context(), forgetable, func(b *pgx.Batch) { b.Queue(`select 1`) })
	}()
	select {
	case err := <-answer:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(6 * dbTimeout):
		t.Fatalf("no answer, and no end after %s", 6*dbTimeout)
	}
}
