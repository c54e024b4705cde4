// Package pgtest gives each test a database of its own on a real Postgres.
//
// A package that uses it needs
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// The first test to ask starts a private server, shared by the tests of that
// binary; OUTBOX_TEST_DATABASE_URL names a server to use in its place, whose
// role must be allowed to create databases. OUTBOX_TEST_FSYNC=on makes private
// servers wait for the disk as a user's does, for what measures times.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

const (
	urlEnv    = "OUTBOX_TEST_DATABASE_URL"
	fsyncEnv  = "OUTBOX_TEST_FSYNC"
	prefix    = "outbox_test_"   // of every database's name
	poolSize  = 10               // connections of DB.Pool
	timeout   = 30 * time.Second // for one step on the database
	forgotten = 6 * time.Hour    // age of databases that a killed run has left behind
)

// DB is a database of one test.
type DB struct {
	URL  string
	Name string
	Pool *pgxpool.Pool // at most 10 connections
}

// New returns a migrated database. It is dropped when the test ends, with
// whatever connections to it are left.
func New(t testing.TB) *DB {
	t.Helper()
	return create(t, shared(t), true)
}

// Empty returns a database as New does but without the schema.
func Empty(t testing.TB) *DB {
	t.Helper()
	return create(t, shared(t), false)
}

// NewOn returns a migrated database on a server that Private has returned. It
// goes when the server goes.
func NewOn(t testing.TB, server *devpg.Server) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	db := &DB{Name: newName()}
	db.URL = server.URL(db.Name)
	if err := execAt(ctx, server.URL("postgres"), "create database "+db.Name); err != nil {
		t.Fatal(err)
	}
	if err := migrate(ctx, db.URL); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	db.open(t)
	return db
}

// Private returns a server for one test to stop, restart and kill. It is
// stopped when the test ends. It is made even if OUTBOX_TEST_DATABASE_URL
// names a server, since that is not ours to stop.
func Private(t testing.TB) *devpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	defer cancel()
	server, err := devpg.Start(ctx, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return server
}

// options are for a server whose data nobody will miss, so that it does not
// wait for the disk unless a measurement asks for that.
func options() devpg.Options {
	o := devpg.Options{
		MaxConnections: 200,
		Fsync:          os.Getenv(fsyncEnv) == "on",
		Settings:       map[string]string{"jit": "off"}, // takes longer than any query here
	}
	if !o.Fsync {
		o.Settings["shared_buffers"] = "16MB" // what is measured has the default
	}
	return o
}

// Main runs the tests of a package and stops the server that they shared. It
// returns the exit code.
func Main(m *testing.M) int {
	runsMain = true
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := theServer.stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

var (
	runsMain  bool
	theServer server
)

// shared returns the server of this test binary, started.
func shared(t testing.TB) *server {
	t.Helper()
	if !runsMain {
		t.Fatal("the package needs: func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	}
	theServer.started.Do(func() { theServer.err = theServer.start() })
	if theServer.err != nil {
		t.Fatal(theServer.err)
	}
	return &theServer
}

// A server is where the databases of a test binary live.
type server struct {
	started  sync.Once
	err      error         // of start
	own      *devpg.Server // nil for a server that the environment names
	adminURL string        // of a database to create others from
	fileCopy string        // clause of CREATE DATABASE, where the server knows it

	migrated    sync.Once
	migratedErr error
	template    string // name of the migrated database
}

func (s *server) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	defer cancel()
	if s.adminURL = os.Getenv(urlEnv); s.adminURL == "" {
		own, err := devpg.Start(ctx, options())
		if err != nil {
			return err
		}
		s.own, s.adminURL = own, own.URL("postgres")
	}
	conn, err := pgx.Connect(ctx, s.adminURL)
	if err != nil {
		return fmt.Errorf("%s: %w", urlEnv, err)
	}
	defer conn.Close(ctx)
	var version int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return err
	}
	if version >= 150000 {
		s.fileCopy = " strategy file_copy" // 26 ms; the default takes 81
	}
	if s.own == nil {
		return dropForgotten(ctx, conn)
	}
	return nil
}

func (s *server) stop(ctx context.Context) error {
	if s.own != nil {
		return s.own.Stop(ctx)
	}
	if s.template != "" {
		return s.drop(ctx, s.template)
	}
	return nil
}

// migrate makes the template, once.
func (s *server) migrate() error {
	s.migrated.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
		defer cancel()
		name := newName()
		if s.migratedErr = execAt(ctx, s.adminURL, "create database "+name); s.migratedErr != nil {
			return
		}
		s.template = name
		if err := migrate(ctx, withDatabase(s.adminURL, name)); err != nil {
			s.migratedErr = fmt.Errorf("migrate: %w", err)
		}
	})
	return s.migratedErr
}

func (s *server) drop(ctx context.Context, name string) error {
	return execAt(ctx, s.adminURL, "drop database if exists "+name+" with (force)")
}

func create(t testing.TB, s *server, migrated bool) *DB {
	t.Helper()
	db := &DB{Name: newName()}
	db.URL = withDatabase(s.adminURL, db.Name)
	sql := "create database " + db.Name
	if migrated {
		if err := s.migrate(); err != nil {
			t.Fatal(err)
		}
		sql += " template " + s.template + s.fileCopy
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := execAt(ctx, s.adminURL, sql); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := s.drop(ctx, db.Name); err != nil {
			t.Error(err)
		}
	})
	db.open(t)
	return db
}

// open makes the pool and has it closed when the test ends.
func (db *DB) open(t testing.TB) {
	t.Helper()
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = poolSize
	config.ConnConfig.ConnectTimeout = timeout
	if db.Pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			db.Pool.Close() // waits for every connection to be given back
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(timeout):
			t.Errorf("the test has not given back %d connections of its pool", db.Pool.Stat().AcquiredConns())
		}
	})
}

// newName returns a name that no other database has. It tells when it was
// made; see dropForgotten.
func newName() string {
	return fmt.Sprintf("%s%d_%s", prefix, time.Now().Unix(), strings.ToLower(rand.Text()[:10]))
}

// dropForgotten drops databases of earlier runs that were killed, on a server
// that outlives them. One that is connected to is spared.
func dropForgotten(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "select datname from pg_database where starts_with(datname, $1)", prefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		seconds, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "_")
		made, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || time.Since(time.Unix(made, 0)) < forgotten {
			continue
		}
		// An error is that of another run that does the same, or of a role
		// that does not own it.
		_, _ = conn.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize())
	}
	return nil
}

// withDatabase returns address, a URL or a list of key=value, with another
// database in it.
func withDatabase(address, name string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return address + " dbname=" + name
	}
	u.Path = "/" + name
	return u.String()
}

// execAt runs one statement on a connection of its own.
func execAt(ctx context.Context, address, sql string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	if err != nil {
		err = fmt.Errorf("%s: %w", sql, err)
	}
	return errors.Join(err, conn.Close(ctx))
}
