package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// A server is where the databases of a run are.
type server struct {
	own    *devpg.Server // nil for one that was given
	admin  string        // URL of a database to create others from
	bin    string        // folder of the server's programs; "" where that is not known
	claims *claimLog     // what its log says; nil for one that was given

	noCheckpoint bool     // the role may not ask for one
	left         []string // what could not be removed again, and why
}

// openServer starts a private server with these settings, or uses the one at
// url, whose settings are what they are.
func openServer(ctx context.Context, url string, settings map[string]string) (*server, error) {
	s := &server{admin: url}
	if url == "" {
		s.claims = newClaimLog()
		all := map[string]string{"log_parameter_max_length": "0", "log_min_messages": "warning"}
		for name, value := range settings {
			all[name] = value
		}
		var err error
		s.own, err = devpg.Start(ctx, devpg.Options{MaxConnections: 200, Fsync: true, Settings: all, Log: s.claims})
		if err != nil {
			return nil, err
		}
		s.admin = s.own.URL("postgres")
	} else if err := s.inspect(ctx); err != nil {
		return nil, err
	}
	if dir, _, err := devpg.Find(); err == nil {
		s.bin = dir
	}
	return s, nil
}

// inspect asks what the role that was given may do. It changes nothing.
func (s *server) inspect(ctx context.Context) error {
	return withConn(ctx, s.admin, func(conn *pgx.Conn) error {
		var role string
		var mayCreate bool
		err := conn.QueryRow(ctx, `select rolname, rolcreatedb or rolsuper from pg_roles where rolname = current_user`).Scan(&role, &mayCreate)
		if err != nil {
			return err
		}
		if !mayCreate {
			return fmt.Errorf("--database: the role %s may not create databases, and the benchmark works in none that it did not make (ALTER ROLE %[1]s CREATEDB)", role)
		}
		_, err = conn.Exec(ctx, "checkpoint")
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" { // insufficient_privilege
			s.noCheckpoint = true
			return nil
		}
		return err
	})
}

// freeConnections returns how many more connections the server takes.
func (s *server) freeConnections(ctx context.Context) (n int, err error) {
	err = withConn(ctx, s.admin, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- count(*)::int from pg_stat_activity where backend_type = 'client backend'`).Scan(&n)
	})
	return n, err
}

// close stops a server of our own.
func (s *server) close() error {
	if s.own == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.own.Stop(ctx)
}

// program returns the path of one of Postgres's programs, from beside the
// server or from PATH; "" without it.
func (s *server) program(name string) string {
	if s.bin != "" {
		path := filepath.Join(s.bin, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// describe returns the version and the settings that are not the defaults.
func (s *server) describe(ctx context.Context) (string, error) {
	var version string
	var settings []string
	err := withConn(ctx, s.admin, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `select current_setting('server_version')`).Scan(&version); err != nil {
			return err
		}
		rows, _ := conn.Query(ctx, `
			select name || '=' || current_setting(name) from pg_settings
			where source in ('command line', 'configuration file', 'environment variable', 'database', 'user')
			  and setting is distinct from boot_val
			  and category not similar to '(File Locations|Client Connection Defaults / Locale|Preset Options|Reporting and Logging|Connections and Authentication)%'
			   or name in ('max_connections', 'fsync', 'synchronous_commit', 'shared_buffers', 'full_page_writes', 'max_wal_size')
			order by name`)
		var err error
		settings, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return version + "; " + strings.Join(settings, ", "), err
}

// withConn runs f with a connection of its own.
func withConn(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	err = f(conn)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// A database is one of our own, named outbox_bench_*. Drop it after use.
type database struct {
	server *server
	name   string
	url    string
	pool   *pgxpool.Pool // for what the benchmark itself asks
}

// empty makes a database without our schema.
func (s *server) empty(ctx context.Context) (*database, error) {
	db := &database{server: s, name: "outbox_bench_" + strings.ToLower(rand.Text()[:10])}
	u, err := url.Parse(s.admin)
	if err != nil {
		return nil, errors.New("--database is not a URL such as postgres://user@host:5432/postgres")
	}
	u.Path = "/" + db.name
	db.url = u.String()
	// template1 may have tables of whoever the server belongs to.
	if err := s.exec(ctx, "create database "+db.name+" template template0"); err != nil {
		return nil, err
	}
	if db.pool, err = pgxpool.New(ctx, db.url); err != nil {
		db.drop()
		return nil, err
	}
	return db, nil
}

// migrated makes a database as `listener migrate` leaves it.
func (s *server) migrated(ctx context.Context) (*database, error) {
	db, err := s.empty(ctx)
	if err != nil {
		return nil, err
	}
	err = withConn(ctx, db.url, func(conn *pgx.Conn) error {
		_, err := migrations.Up(ctx, conn, migrations.Options{})
		return err
	})
	if err != nil {
		db.drop()
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return db, nil
}

// filled makes a migrated database in which n events wait, see fill.
func (s *server) filled(ctx context.Context, n, bytes int, urls ...string) (*database, error) {
	db, err := s.migrated(ctx)
	if err != nil {
		return nil, err
	}
	if err = db.fill(ctx, n, bytes, urls...); err == nil {
		err = db.settle(ctx)
	}
	if err != nil {
		db.drop()
		return nil, err
	}
	return db, nil
}

func (s *server) exec(ctx context.Context, sql string) error {
	return withConn(ctx, s.admin, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// drop removes the database, with whatever is connected to it. It works after
// the context of the run has ended too.
func (db *database) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if db.pool != nil {
		db.pool.Close()
	}
	if db.server.own != nil {
		_ = db.server.exec(ctx, "drop database if exists "+db.name+" with (force)") // the server goes anyway
		return
	}
	// Whoever is no superuser may not end a worker of autovacuum by force, and
	// without it the server waits for 5 s and has it end by itself.
	for force := true; ; force = !force {
		statement := "drop database if exists " + db.name
		if force {
			statement += " with (force)"
		}
		err := db.server.exec(ctx, statement)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			db.server.left = append(db.server.left, fmt.Sprintf("The database %s could not be dropped: %v", db.name, err))
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fill inserts n events in one statement. Without urls they are discarded;
// with them they are webhooks that go to each in turn, with the body
// {"n": i, "text": …} for i from 0. A payload has about that many bytes.
func (db *database) fill(ctx context.Context, n, bytes int, urls ...string) error {
	return db.fillFrom(ctx, 0, n, bytes, urls...)
}

// fillFrom is fill for i from first.
func (db *database) fillFrom(ctx context.Context, first, n, bytes int, urls ...string) error {
	if urls == nil {
		urls = []string{} // null would be neither
	}
	_, err := db.pool.Exec(ctx, `
		insert into public.outbox_events (type, payload)
		select case when cardinality($3::text[]) = 0 then 'discard.send' else 'webhook.send' end,
		       case when cardinality($3::text[]) = 0 then body
		            else jsonb_build_object('url', ($3::text[])[1 + n % cardinality($3::text[])], 'body', body) end
		from (select n, jsonb_build_object('n', n, 'text', repeat('x', $2::int)) as body
		      from generate_series($4::int, $4::int + $1::int - 1) as n) as t`, n, max(bytes-30, 1), urls, first)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// settle leaves the database as a quiet hour would: vacuumed, analyzed, and
// with nothing left to write.
func (db *database) settle(ctx context.Context) error {
	for _, sql := range []string{"vacuum (analyze)", "checkpoint"} {
		if sql == "checkpoint" && db.server.noCheckpoint {
			continue
		}
		if _, err := db.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// exec runs statements on the database.
func (db *database) exec(ctx context.Context, sql string, args ...any) error {
	_, err := db.pool.Exec(ctx, sql, args...)
	return err
}

// value reads one value.
func value[T any](ctx context.Context, db *database, sql string, args ...any) (T, error) {
	var v T
	err := db.pool.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// drainTail is how many of the newest events are asked for often: so many that
// the rest is done when they are, or nearly.
const drainTail = 10_000

// drained waits until another session than the listener's sees every event
// processed, and returns when that was, by the server's clock. What it sees is
// committed, and on disk.
//
// It asks for one event alone, by its index, until the last of them are near;
// then every 2 ms whether they are done; and only then for all of them. More
// rows must not come meanwhile.
func (db *database) drained(ctx context.Context, d *daemon) (time.Time, error) {
	newest, err := value[int64](ctx, db, `select coalesce(max(seq), 0) from public.outbox_events`)
	if err != nil {
		return time.Time{}, err
	}
	near, err := value[int64](ctx, db, `select coalesce(min(seq), 0) from public.outbox_events where seq > $1`, newest-drainTail)
	if err != nil {
		return time.Time{}, err
	}
	for {
		done, err := value[bool](ctx, db, `select processed_at is not null from public.outbox_events where seq = $1`, near)
		if errors.Is(err, pgx.ErrNoRows) || done {
			break // or there was none
		}
		if err == nil {
			err = d.pause(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	for after := newest - drainTail; ; {
		// The clock is read once the snapshot is taken, and before the
		// search, which begins where the last ones are.
		var at time.Time
		var left bool
		err := db.pool.QueryRow(ctx, `select clock_timestamp(), (select seq from public.outbox_events
			where seq > $1 and processed_at is null order by seq desc limit 1) is not null`, after).Scan(&at, &left)
		switch {
		case err != nil:
			return time.Time{}, err
		case left:
			if err := d.pause(ctx, 2*time.Millisecond); err != nil {
				return time.Time{}, err
			}
		case after < 0:
			return at, nil
		default:
			after = -1
		}
	}
}

// firstConnection returns when the first of the listeners that are connected
// came, by the server's clock.
func (db *database) firstConnection(ctx context.Context) (time.Time, error) {
	return value[time.Time](ctx, db, `select min(backend_start) from pg_stat_activity
		where datname = current_database() and application_name like 'outbox-listener%'`)
}

// allDelivered fails unless the ledger has n deliveries, all of which arrived.
func (db *database) allDelivered(ctx context.Context, n int) error {
	var all, delivered int
	err := db.pool.QueryRow(ctx, `select count(*), count(*) filter (where state = 'delivered') from outbox.deliveries`).Scan(&all, &delivered)
	if err == nil && (all != n || delivered != n) {
		err = fmt.Errorf("the ledger has %d deliveries of %d events, %d of which arrived", all, n, delivered)
	}
	return err
}
