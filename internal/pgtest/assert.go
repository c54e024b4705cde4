package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Exec runs a statement and returns how many rows it has touched. It fails the
// test on an error.
func Exec(t testing.TB, db *DB, sql string, args ...any) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	tag, err := db.Pool.Exec(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// QueryVal returns the one value that a query gives. It fails the test on an
// error and if there is not exactly one row of one column. T is a pointer
// where the value may be null.
func QueryVal[T any](t testing.TB, db *DB, sql string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	rows, err := db.Pool.Query(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// QueryVals returns the values of a query of one column, in its order.
func QueryVals[T any](t testing.TB, db *DB, sql string, args ...any) []T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	rows, err := db.Pool.Query(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// Eventually looks at something at once and then every ten milliseconds, until
// it is done. After timeout it fails the test with the state it saw last.
func Eventually(t testing.TB, timeout time.Duration, look func() (done bool, state string)) {
	t.Helper()
	end := time.After(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		done, state := look()
		if done {
			return
		}
		select {
		case <-end:
			t.Fatalf("not after %v; last state: %s", timeout, state)
		case <-tick.C:
		}
	}
}

// Drains waits until what count counts is none. The test ends only when it has not
// fallen below the least so far for stall: how long all of it takes is up to the
// machine.
func Drains(t testing.TB, stall time.Duration, what string, count func() int) {
	t.Helper()
	least, since := -1, time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		n := count()
		switch {
		case n == 0:
			return
		case least < 0 || n < least:
			least, since = n, time.Now()
		case time.Since(since) > stall:
			t.Fatalf("%d %s, and none fewer for %v", n, what, stall)
		}
		<-tick.C
	}
}
