package pgtest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// databases returns the names of those that tests have on the shared server.
func databases(t *testing.T) map[string]bool {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, shared(t).adminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select datname from pg_database where starts_with(datname, $1)", prefix)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

func TestParallelTestsAreApart(t *testing.T) {
	var mu sync.Mutex
	made := map[string]bool{}
	t.Run("group", func(t *testing.T) {
		for i := range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				db := New(t)
				Exec(t, db, "create table mine (i int)")
				if n := Exec(t, db, "insert into mine values ($1)", i); n != 1 {
					t.Errorf("%d rows inserted", n)
				}
				if got := QueryVal[int](t, db, "select i from mine"); got != i {
					t.Errorf("another test's row: %d, not %d", got, i)
				}
				if got := QueryVal[string](t, db, "select current_database()"); got != db.Name {
					t.Errorf("connected to %s, not %s", got, db.Name)
				}
				// A connection that the test forgets must not keep the database.
				if _, err := pgx.Connect(context.Background(), db.URL); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				made[db.Name] = true
			})
		}
	})
	if len(made) != 4 {
		t.Errorf("%d databases for 4 tests", len(made))
	}
	left := databases(t)
	for name := range made {
		if left[name] {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestNewIsMigratedAndEmptyIsNot(t *testing.T) {
	t.Parallel()
	const tables = "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
	if n := QueryVal[int](t, Empty(t), tables); n != 0 {
		t.Errorf("Empty has %d tables", n)
	}
	if n := QueryVal[int](t, New(t), tables); n == 0 {
		t.Error("New has no tables")
	}
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	server := Private(t)
	db := NewOn(t, server)
	Exec(t, db, "create table kept as select 1 as i")
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Restart(ctx, devpg.Fast); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 10*time.Second, func() (bool, string) {
		_, err := db.Pool.Exec(ctx, "select from kept") // the pool finds its dead connections
		return err == nil, fmt.Sprint(err)
	})
	if got := QueryVals[int](t, db, "select i from kept"); len(got) != 1 {
		t.Errorf("%d rows kept", len(got))
	}
}

// failing is a test that notes how it fails.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestEventually(t *testing.T) {
	t.Parallel()
	looks := 0
	Eventually(t, 10*time.Second, func() (bool, string) {
		looks++
		return looks == 3, ""
	})
	if looks != 3 {
		t.Errorf("looked %d times", looks)
	}

	f := &failing{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Eventually(f, 30*time.Millisecond, func() (bool, string) { return false, "two rows left" })
	}()
	<-ended
	if !strings.Contains(f.said, "two rows left") {
		t.Errorf("failed with %q", f.said)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, want string }{
		{"postgres://u:p%40@h:1/a?sslmode=disable", "postgres://u:p%40@h:1/db?sslmode=disable"},
		{"postgresql://h", "postgresql://h/db"},
		{"host=h dbname=a", "host=h dbname=a dbname=db"},
	} {
		if got := withDatabase(tt.address, "db"); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.address, got, tt.want)
		}
	}
}

func TestDropForgotten(t *testing.T) {
	t.Parallel()
	old := fmt.Sprintf("%s%d_old", prefix, time.Now().Add(-2*forgotten).Unix())
	young := Empty(t)
	ctx := t.Context()
	if err := execAt(ctx, shared(t).adminURL, "create database "+old); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, shared(t).adminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := dropForgotten(ctx, conn); err != nil {
		t.Fatal(err)
	}
	left := databases(t)
	if left[old] || !left[young.Name] {
		t.Errorf("old is there: %t; young is there: %t", left[old], left[young.Name])
	}
}
