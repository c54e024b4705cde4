package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// Options of Up and Uninstall. The zero value will do.
type Options struct {
	// Backlog says what becomes of events that wait in a table that is to
	// be adopted. Without it Up stops with a *BacklogError when there are any.
	Backlog Backlog

	// LockTimeout is how long writers of the events table may be held up at
	// a time, while a change waits for its turn. 0 means 200 ms.
	LockTimeout time.Duration

	// Wait is how long each change keeps trying to get its turn before it
	// gives up with a *LockedError. 0 means one minute. For another runner
	// in the same database Up waits until its context ends.
	Wait time.Duration

	// Progress is told, in words for people, what takes a while. May be nil.
	Progress func(string)
}

// Report is what Up did.
type Report struct {
	From, To int       // schema version before and after
	Applied  []string  // names of the files applied, in order; empty when there was nothing to do
	Created  bool      // public.outbox_events was not there and was made
	Adopted  bool      // public.outbox_events was there and has our columns now
	Waiting  []Waiting // events that waited in the table when it was adopted
	Placed   int64     // waiting events that are to be delivered now
	Warnings []string  // what works but deserves a look
}

// Up brings the database to the newest schema that this binary knows. A
// second run finds nothing to do and touches nothing; several at once take
// turns. conn must belong to nobody else: its session is altered, and an
// advisory lock is held on it while Up works.
//
// Interrupted at any point, Up goes on from there the next time. Errors are
// *BacklogError (decide), *ShapeError (mend), *LockedError (try again), or
// come from the database.
func Up(ctx context.Context, conn *pgx.Conn, opt Options) (Report, error) {
	var rep Report
	all, err := load()
	if err != nil {
		return rep, err
	}
	s, err := open(ctx, conn, opt)
	if err != nil {
		return rep, err
	}
	defer s.close(ctx)

	h, err := readHistory(ctx, conn)
	if err != nil {
		return rep, err
	}
	if err := h.verify(all); err != nil {
		return rep, err
	}
	rep.From, rep.To = h.version(), h.version()

	todo, err := s.plan(ctx, all, h)
	if err != nil {
		return rep, err
	}
	var a asked
	existed := false
	if len(todo) > 0 {
		sh, err := checkShape(ctx, conn, h)
		if err != nil {
			return rep, err
		}
		rep.Warnings = sh.warnings
		if h.version() < adoption {
			if sh.exists {
				if a, err = countBacklog(ctx, conn); err != nil {
					return rep, fmt.Errorf("counting the events that wait: %w", err)
				}
				rep.Waiting = a.waiting
				if len(a.waiting) > 0 && opt.Backlog.Choice == "" {
					return rep, &BacklogError{Waiting: a.waiting, AskedAt: a.at}
				}
			} else if err := conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&a.at); err != nil {
				return rep, err
			}
			existed = sh.exists
		}
	}

	if !h.table {
		if err := s.tx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, bootstrap)
			return err
		}); err != nil {
			return rep, err
		}
	}
	for _, f := range todo {
		err := s.apply(ctx, f, a, opt.Backlog)
		if _, ok := errors.AsType[*LockedError](err); ok {
			return rep, err // it names the file itself
		}
		if err != nil {
			return rep, fmt.Errorf("%s: %w", f.name, err)
		}
		rep.Applied = append(rep.Applied, f.name)
		rep.To = max(rep.To, f.version)
		if f.version == adoption {
			rep.Created, rep.Adopted = !existed, existed
		}
	}
	if h.version() >= adoption && opt.Backlog.Choice != "" {
		warning, err := s.changeBacklog(ctx, opt.Backlog)
		if err != nil {
			return rep, err
		}
		if warning != "" {
			rep.Warnings = append(rep.Warnings, warning)
		}
	}
	rep.Placed, err = s.placeBacklog(ctx)
	return rep, err
}

// plan returns the files to be applied: migrations that were not yet, or
// whose index is gone or broken, and trigger scripts that have changed or
// whose trigger is gone.
func (s *session) plan(ctx context.Context, all scripts, h history) ([]file, error) {
	var todo []file
	for _, f := range all.migrations {
		if f.version > h.version() {
			todo = append(todo, f)
			continue
		}
		if !f.tx && !f.index.drop {
			state, err := indexState(ctx, s.conn, f.index)
			if err != nil {
				return nil, err
			}
			if state != indexValid {
				todo = append(todo, f)
			}
		}
	}
	for _, f := range all.triggers {
		mode, err := triggerMode(ctx, s.conn, f.trigger)
		if err != nil {
			return nil, err
		}
		if mode == "" || h.triggers[f.name].checksum != f.checksum {
			todo = append(todo, f)
		}
	}
	return todo, nil
}

// apply runs one file and records it. a and b are written down with the file
// that adopts the table.
func (s *session) apply(ctx context.Context, f file, a asked, b Backlog) error {
	if !f.tx {
		return s.applyIndex(ctx, f)
	}
	if table := f.alters(); table != "" {
		return s.tableTx(ctx, f.name, table, func(tx pgx.Tx) error { return applyTx(ctx, tx, f, a, b) })
	}
	return s.tx(ctx, func(tx pgx.Tx) error { return applyTx(ctx, tx, f, a, b) })
}

func applyTx(ctx context.Context, tx pgx.Tx, f file, a asked, b Backlog) error {
	mode := ""
	if f.trigger != "" {
		var err error
		if mode, err = triggerMode(ctx, tx.Conn(), f.trigger); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, f.sql); err != nil {
		return err
	}
	// Whoever disabled a trigger had a reason, which outlives an update.
	if how := triggerModes[mode]; how != "" {
		if _, err := tx.Exec(ctx, `alter table public.outbox_events `+how+` trigger `+f.trigger); err != nil {
			return err
		}
	}
	if f.kind == kindMigration && f.version == adoption {
		if err := recordBacklog(ctx, tx, a, b); err != nil {
			return err
		}
	}
	return recordFile(ctx, tx, f)
}

func recordFile(ctx context.Context, tx pgx.Tx, f file) error {
	failpoint.Hit("K19")
	_, err := tx.Exec(ctx, remember, f.name, f.kind, f.version, f.checksum)
	return err
}

// triggerModes are the states of a trigger (pg_trigger.tgenabled) other than
// the one in which it is created, and the words that bring it there.
var triggerModes = map[string]string{"D": "disable", "R": "enable replica", "A": "enable always"}

// triggerMode returns pg_trigger.tgenabled of one of our triggers, or "" when
// the events table does not have it.
func triggerMode(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	var mode string
	err := conn.QueryRow(ctx, `
		select t.tgenabled::text
		from pg_catalog.pg_trigger as t
		join pg_catalog.pg_proc as p on p.oid = t.tgfoid
		join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
		where t.tgrelid = to_regclass('public.outbox_events') and t.tgname = $1::text and n.nspname = 'outbox'`, name).Scan(&mode)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return mode, err
}

// What may be under the name of an index that a file builds.
const (
	indexMissing = "missing"
	indexInvalid = "invalid" // left by a build that failed
	indexValid   = "valid"
)

func indexState(ctx context.Context, conn *pgx.Conn, i index) (string, error) {
	var valid bool
	err := conn.QueryRow(ctx, `
		select i.indisvalid and i.indisready
		from pg_catalog.pg_class as c
		join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
		join pg_catalog.pg_index as i on i.indexrelid = c.oid
		where n.nspname || '.' || c.relname = $1::text and i.indrelid = to_regclass($2::text)`, i.String(), i.table).Scan(&valid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return indexMissing, nil
	case err != nil:
		return "", err
	case valid:
		return indexValid, nil
	}
	return indexInvalid, nil
}

// applyIndex builds or drops an index without keeping writers out. It waits
// for the transactions that are older than itself, and holds up nobody
// meanwhile.
func (s *session) applyIndex(ctx context.Context, f file) error {
	if _, err := s.conn.Exec(ctx, `set lock_timeout = '`+milliseconds(s.wait)+`'`); err != nil {
		return err
	}
	begin := time.Now()
	want, left := indexValid, "an unfinished index is left, which the next run drops and builds again"
	if f.index.drop {
		want, left = indexMissing, "the index is left, which the next run drops"
	}
	err := func() error {
		state, err := indexState(ctx, s.conn, f.index)
		if err != nil {
			return err
		}
		if state == indexInvalid && !f.index.drop {
			if _, err := s.conn.Exec(ctx, `drop index concurrently `+f.index.String()); err != nil {
				return err
			}
		}
		if _, err = s.conn.Exec(ctx, f.sql); err != nil {
			return err
		}
		if state, err = indexState(ctx, s.conn, f.index); err == nil && state != want {
			err = fmt.Errorf("index %s on %s is %s afterwards; is there something else of that name?", f.index, f.index.table, state)
		}
		return err
	}()
	if _, rerr := s.conn.Exec(ctx, `set lock_timeout = 0`); err == nil {
		err = rerr
	}
	if busy(err) {
		holders, herr := s.holders(ctx, f.index.table, true)
		if herr != nil {
			return errors.Join(err, herr)
		}
		err = &LockedError{What: f.name, Table: f.index.table, Waited: time.Since(begin), Holders: holders, err: err, Rest: left}
	}
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx pgx.Tx) error { return recordFile(ctx, tx, f) })
}
