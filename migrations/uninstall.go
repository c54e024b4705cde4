package migrations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// UninstallOptions of Uninstall. The zero value is the careful one.
type UninstallOptions struct {
	Options
	Force bool // go on although listeners are connected or deliveries are open
}

// InUseError says why Uninstall would rather not. Nothing was changed.
type InUseError struct {
	Listeners []Holder         // listeners that are connected
	Open      map[string]int64 // deliveries that are not finished, by state
	states    []string         // its keys in order
}

// Error implements error.
func (e *InUseError) Error() string {
	var why []string
	if len(e.Listeners) > 0 {
		why = append(why, "listeners are connected: "+list(e.Listeners)+"; stop them")
	}
	if len(e.Open) > 0 {
		var counts []string
		for _, s := range e.states {
			counts = append(counts, fmt.Sprintf("%d %s", e.Open[s], s))
		}
		why = append(why, "deliveries are not finished: "+strings.Join(counts, ", ")+"; they would be forgotten")
	}
	return "nothing was removed: " + strings.Join(why, "; ") + " (--force removes all the same)"
}

// Uninstall takes away everything that Up brought: triggers, columns, index,
// sequence and schema outbox with its ledger. The application's columns and
// rows stay as they are, as does the table itself, whoever made it. It is
// harmless where nothing is installed, and then returns false.
//
// Whatever else depends on our tables or columns, such as a view, makes it
// fail with nothing removed.
func Uninstall(ctx context.Context, conn *pgx.Conn, opt UninstallOptions) (removed bool, err error) {
	s, err := open(ctx, conn, opt.Options)
	if err != nil {
		return false, err
	}
	defer s.close(ctx)
	h, err := readHistory(ctx, conn)
	if err != nil {
		return false, err
	}
	ours, err := ownColumns(ctx, conn)
	if err != nil || !h.table && !ours {
		return false, err
	}
	if h.table && !opt.Force {
		use := &InUseError{Open: map[string]int64{}}
		if err := use.findListeners(ctx, conn); err != nil {
			return false, err
		}
		if h.version() > 0 {
			if err := use.countOpen(ctx, conn); err != nil {
				return false, err
			}
		}
		if use.any() {
			return false, use
		}
	}
	err = s.retry(ctx, "uninstall", eventsTable, func() error {
		return s.tx(ctx, func(tx pgx.Tx) error {
			var table, partitioned bool
			if err := tx.QueryRow(ctx, `
				select to_regclass('public.outbox_events') is not null,
				       exists (select from pg_class where oid = to_regclass('public.outbox_events') and relkind = 'p')`).Scan(&table, &partitioned); err != nil {
				return err
			}
			if partitioned {
				return errors.New("nothing was removed: public.outbox_events is partitioned by our column seq; make it an ordinary table first (docs/retention.md)")
			}
			use := &InUseError{Open: map[string]int64{}}
			careful := h.table && !opt.Force
			if careful && h.version() > 0 {
				if err := quietVacuum(ctx, tx, deliveriesTable, s.lockTimeout); err != nil {
					return err
				}
				// Nobody writes there from here on, so that what is counted now stays true. The
				// application can write meanwhile: reading the whole ledger may take a while.
				if _, err := tx.Exec(ctx, `lock table outbox.deliveries in share mode`); err != nil {
					return err
				}
				if err := use.countOpen(ctx, tx); err != nil {
					return err
				}
			}
			if table {
				if err := quietVacuum(ctx, tx, eventsTable, s.lockTimeout); err != nil {
					return err
				}
				// Nobody claims from here on.
				if _, err := tx.Exec(ctx, `lock table public.outbox_events in access exclusive mode`); err != nil {
					return err
				}
			}
			if careful {
				if err := use.findListeners(ctx, tx); err != nil {
					return err
				}
				if use.any() {
					return use
				}
			}
			if table {
				if err := stripTable(ctx, tx, h, ours); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `drop sequence if exists public.outbox_events_seq_seq`); err != nil {
				return err
			}
			if !h.table {
				return nil
			}
			return dropSchema(ctx, tx)
		})
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "2BP01" { // dependent_objects_still_exist
		err = fmt.Errorf("nothing was removed, since something else needs it: %s: %w", strings.ReplaceAll(pg.Detail, "\n", "; "), err)
	}
	return err == nil, err
}

// ownColumns reports whether the table has all our columns, as we make them:
// one or two of them, or of other types, are the application's.
func ownColumns(ctx context.Context, conn *pgx.Conn) (bool, error) {
	columns, err := readColumns(ctx, conn)
	for _, o := range own {
		if columns[o.name].typ != o.typ {
			return false, err
		}
	}
	return true, err
}

// querier is a connection, or a transaction on one.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// any reports whether somebody still needs what is installed.
func (e *InUseError) any() bool { return len(e.Listeners)+len(e.Open) > 0 }

// findListeners finds those that are connected.
func (e *InUseError) findListeners(ctx context.Context, db querier) error {
	rows, err := db.Query(ctx, `
		select pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, '')
		from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid()
		  and application_name in ('outbox-listener', 'outbox-listener listen')
		order by pid`)
	if err != nil {
		return err
	}
	e.Listeners, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Holder, error) {
		var h Holder
		err := row.Scan(&h.PID, &h.User, &h.Application, &h.State)
		return h, err
	})
	return err
}

// countOpen counts the deliveries that are not finished. It reads the whole ledger.
func (e *InUseError) countOpen(ctx context.Context, db querier) error {
	rows, err := db.Query(ctx, `select state, count(*) from outbox.deliveries where finished_at is null group by state order by state`)
	if err != nil {
		return err
	}
	var state string
	var count int64
	_, err = pgx.ForEachRow(rows, []any{&state, &count}, func() error {
		e.Open[state] = count
		e.states = append(e.states, state)
		return nil
	})
	return err
}

// stripTable takes our triggers, columns and settings off the events table.
func stripTable(ctx context.Context, tx pgx.Tx, h history, ours bool) error {
	rows, err := tx.Query(ctx, `
		select t.tgname::text from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
		where t.tgrelid = 'public.outbox_events'::regclass and not t.tgisinternal
		  and p.pronamespace = to_regnamespace('outbox') order by 1`)
	if err != nil {
		return err
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var stmts []string
	for _, t := range triggers {
		stmts = append(stmts, `drop trigger `+pgx.Identifier{t}.Sanitize()+` on public.outbox_events`)
	}
	if ours {
		var drops []string
		for _, o := range own {
			drops = append(drops, "drop column "+o.name) // the index goes with seq
		}
		stmts = append(stmts, `alter table public.outbox_events `+strings.Join(drops, ", "))
	}
	if ours {
		var before *string
		if h.version() > 0 {
			if err := tx.QueryRow(ctx, `select fillfactor from outbox.state`).Scan(&before); err != nil {
				return err
			}
		}
		if before == nil {
			stmts = append(stmts, `alter table public.outbox_events reset (fillfactor)`)
		} else {
			n, err := strconv.Atoi(*before)
			if err != nil {
				return fmt.Errorf("outbox.state.fillfactor: %w", err)
			}
			stmts = append(stmts, `alter table public.outbox_events set (fillfactor = `+strconv.Itoa(n)+`)`)
		}
	}
	for _, stmt := range stmts {
		if _, err := tx.Exec(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// dropSchema drops all that is in schema outbox, and nothing that is not.
func dropSchema(ctx context.Context, tx pgx.Tx) error {
	var tables, functions string
	err := tx.QueryRow(ctx, `
		select coalesce((select string_agg(c.oid::regclass::text, ', ') from pg_class as c
		                 where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p')), ''),
		       coalesce((select string_agg(p.oid::regprocedure::text, ', ') from pg_proc as p
		                 where p.pronamespace = 'outbox'::regnamespace), '')`).Scan(&tables, &functions)
	if err != nil {
		return err
	}
	if functions != "" {
		if _, err := tx.Exec(ctx, `drop function `+functions); err != nil {
			return err
		}
	}
	if tables != "" {
		if _, err := tx.Exec(ctx, `drop table `+tables); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `drop schema outbox`)
	return err
}
