package migrations

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockKey is the advisory lock that a runner holds for as long as it works,
// one to a database. The two numbers before it are those of the listener's
// gate and leader.
const lockKey = 7206178340117325155

const (
	defaultLockTimeout = 200 * time.Millisecond
	defaultWait        = time.Minute
)

// settings make the session independent of what was set for the role or the
// database. statement_timeout comes first and alone: it may be in the way of
// the rest.
var settings = []string{
	`set statement_timeout = 0`,
	`set lock_timeout = 0;
	 set idle_in_transaction_session_timeout = 0;
	 set search_path = pg_catalog, pg_temp;
	 set standard_conforming_strings = on;
	 set client_min_messages = warning;
	 set datestyle = 'ISO';
	 set row_security = off; -- an error is better than counting only some of the rows
	 set session characteristics as transaction isolation level read committed, read write`,
	`select set_config(name, '0', false) from pg_settings where name in ('transaction_timeout', 'idle_session_timeout')`,
}

// session is a connection that works alone in its database.
type session struct {
	conn        *pgx.Conn
	lockTimeout time.Duration // how long writers may be held up at a time
	wait        time.Duration // how long to keep trying
	progress    func(string)
}

// open prepares conn and waits until no other runner works in this database.
// It returns nil and an error, or a session that must be closed.
func open(ctx context.Context, conn *pgx.Conn, opt Options) (*session, error) {
	s := &session{conn: conn, lockTimeout: opt.LockTimeout, wait: opt.Wait, progress: opt.Progress}
	if s.lockTimeout <= 0 {
		s.lockTimeout = defaultLockTimeout
	}
	if s.wait <= 0 {
		s.wait = defaultWait
	}
	if s.progress == nil {
		s.progress = func(string) {}
	}
	if err := prepare(ctx, conn); err != nil {
		return nil, err
	}
	// Polled, never waited for: a session that waits in pg_advisory_lock()
	// has a snapshot, for which the holder's CREATE INDEX CONCURRENTLY waits.
	for said := time.Now(); ; {
		var got bool
		if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&got); err != nil {
			return nil, err
		}
		if got {
			return s, nil
		}
		if time.Since(said) > 2*time.Second {
			said = time.Now().Add(8 * time.Second)
			s.progress("waiting for another `listener migrate` that works in this database")
		}
		if err := sleep(ctx, jitter(100*time.Millisecond)); err != nil {
			return nil, fmt.Errorf("waiting for another `listener migrate` that works in this database: %w", err)
		}
	}
}

func prepare(ctx context.Context, conn *pgx.Conn) error {
	if conn.PgConn().TxStatus() != 'I' {
		return errors.New("migrations: the connection is inside a transaction")
	}
	for _, stmt := range settings {
		if _, err := conn.Exec(ctx, stmt); err != nil {
			return fmt.Errorf("preparing the session: %w", err)
		}
	}
	var (
		standby bool
		number  int
		version string
	)
	err := conn.QueryRow(ctx, `select pg_is_in_recovery(), current_setting('server_version_num')::integer, current_setting('server_version')`).
		Scan(&standby, &number, &version)
	switch {
	case err != nil:
		return err
	case number < 130000:
		return fmt.Errorf("PostgreSQL 13 or newer is needed, this server is %s", version)
	case standby:
		return errors.New("this server is a standby: connect to the primary")
	}
	return nil
}

// close gives the advisory lock back. A broken connection has already.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = s.conn.Exec(ctx, `select pg_advisory_unlock($1)`, int64(lockKey))
}

// tx runs fn in a transaction of its own. It is for what the application does
// not notice; fn has to lower lock_timeout before it touches the events table.
func (s *session) tx(ctx context.Context, fn func(pgx.Tx) error) error {
	opt := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return pgx.BeginTxFunc(ctx, s.conn, opt, func(tx pgx.Tx) error {
		var alone bool
		err := tx.QueryRow(ctx, `
			select set_config('lock_timeout', $2::text, true) is not null and exists (
				select from pg_locks
				where locktype = 'advisory' and pid = pg_backend_pid() and granted and objsubid = 1
				  and database = (select oid from pg_database where datname = current_database())
				  and (classid::bigint << 32) | objid::bigint = $1::bigint)`,
			int64(lockKey), milliseconds(10*time.Second)).Scan(&alone)
		if err != nil {
			return err
		}
		if !alone {
			return errors.New("the advisory lock is gone in the middle of the work; is there a transaction pooler on the way? Connect to Postgres directly")
		}
		return fn(tx)
	})
}

// tableTx is tx for what locks table, which others write to. It tries again until
// the session's time is used up; then it returns a *LockedError, and nothing
// of fn is left. what names the work in that error.
func (s *session) tableTx(ctx context.Context, what, table string, fn func(pgx.Tx) error) error {
	return s.retry(ctx, what, table, func() error {
		return s.tx(ctx, func(tx pgx.Tx) error {
			if err := quietVacuum(ctx, tx, table, s.lockTimeout); err != nil {
				return err
			}
			return fn(tx)
		})
	})
}

// quietVacuum takes a lock on table that neither readers nor writers notice, and that
// an autovacuum gives way to when asked for longer than deadlock_timeout (1
// second): longer than writers may be held up while fn asks for more.
func quietVacuum(ctx context.Context, tx pgx.Tx, table string, then time.Duration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`
		set local lock_timeout = '3s';
		lock table %s in share update exclusive mode;
		set local lock_timeout = '%s'`, table, milliseconds(then)))
	return err
}

// retry calls fn until it does not fail for want of a lock, of table as far as is known.
func (s *session) retry(ctx context.Context, what, table string, fn func() error) error {
	begin := time.Now()
	var holders []Holder
	for pause := s.lockTimeout; ; pause = min(2*pause, 2*time.Second) {
		err := fn()
		if !busy(err) {
			return err
		}
		now, herr := s.holders(ctx, table, false)
		if herr != nil {
			return errors.Join(err, herr)
		}
		if len(now) > 0 {
			if holders == nil {
				s.progress(fmt.Sprintf("%s: waiting for %s", what, list(now)))
			}
			holders = now
		}
		if time.Since(begin)+pause > s.wait {
			return &LockedError{What: what, Table: table, Waited: time.Since(begin), Holders: holders, err: err}
		}
		if err := sleep(ctx, jitter(pause)); err != nil {
			return err
		}
	}
}

// busy reports whether err means that somebody else has a lock.
func busy(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "55P03" || pg.Code == "40P01") // lock_not_available, deadlock_detected
}

// Holder is a session, or a prepared transaction, that others wait for.
type Holder struct {
	PID         int    // 0 for a prepared transaction
	Prepared    string // its identifier; "" for a session
	User        string
	Application string
	State       string        // such as "idle in transaction"; "" when this role may not see it
	Age         time.Duration // of its transaction; 0 when this role may not see it
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("prepared transaction %q", h.Prepared)
	}
	var about []string
	if h.User != "" {
		about = append(about, "role "+h.User)
	}
	if h.Application != "" {
		about = append(about, fmt.Sprintf("application %q", h.Application))
	}
	if h.State != "" {
		about = append(about, h.State)
	}
	if h.Age > 0 {
		about = append(about, "for "+h.Age.Round(100*time.Millisecond).String())
	}
	if about == nil {
		return fmt.Sprintf("pid %d", h.PID)
	}
	return fmt.Sprintf("pid %d (%s)", h.PID, strings.Join(about, ", "))
}

func list(holders []Holder) string {
	const most = 10
	var names []string
	for i, h := range holders {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(holders)-most))
			break
		}
		names = append(names, h.String())
	}
	return strings.Join(names, ", ")
}

// LockedError says that a lock was not to be had in time, and whom to ask.
// What was tried is undone; running it again goes on where it stopped.
type LockedError struct {
	What    string
	Table   string // what was in use, with schema
	Waited  time.Duration
	Holders []Holder // oldest transaction first; those seen last
	Rest    string   // what is left behind; "" when nothing is
	err     error
}

// Error implements error.
func (e *LockedError) Error() string {
	who := "nobody that is still there"
	if len(e.Holders) > 0 {
		who = list(e.Holders)
	}
	rest := e.Rest
	if rest == "" {
		rest = "nothing was left half done"
	}
	return fmt.Sprintf("%s: %s was in use for %s by %s; %s: run it again when they are done, or allow more with --wait and --lock-timeout",
		e.What, e.Table, e.Waited.Round(100*time.Millisecond), who, rest)
}

// Unwrap returns what Postgres said.
func (e *LockedError) Unwrap() error { return e.err }

// holders returns who has a lock on table and, if snapshots is set, everyone
// else in this database for whom an index build would wait.
func (s *session) holders(ctx context.Context, table string, snapshots bool) ([]Holder, error) {
	rows, err := s.conn.Query(ctx, `
		with locks as (
			select distinct pid, virtualtransaction
			from pg_locks
			where locktype = 'relation' and granted and pid is distinct from pg_backend_pid()
			  and database = (select oid from pg_database where datname = current_database())
			  and relation = to_regclass($2::text)
		), sessions as (
			select a.pid, ''::text as gid, a.usename, a.application_name, a.state, a.xact_start
			from pg_stat_activity as a
			where a.pid in (select pid from locks)
			   or $1::boolean and a.datname = current_database() and a.pid <> pg_backend_pid()
			      and (a.backend_xid is not null or a.backend_xmin is not null)
			union all
			select 0, p.gid, p.owner, '', '', p.prepared
			from pg_prepared_xacts as p
			where p.database = current_database()
			  and ($1::boolean or exists (
				select from pg_locks as x join locks as l on l.pid is null and l.virtualtransaction = x.virtualtransaction
				where x.pid is null and x.locktype = 'transactionid' and x.transactionid = p.transaction))
		)
		select pid, gid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, ''),
		       coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8
		from sessions order by xact_start nulls last, pid`, snapshots, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Holder, error) {
		var h Holder
		var age float64
		err := row.Scan(&h.PID, &h.Prepared, &h.User, &h.Application, &h.State, &age)
		h.Age = time.Duration(age * float64(time.Second))
		return h, err
	})
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
}

func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
