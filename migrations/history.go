package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// bootstrap makes the place where everything else is recorded.
//
// IF NOT EXISTS would ask for the right to create a schema even where there
// is one.
const bootstrap = `do $$
begin
    if to_regnamespace('outbox') is null then
        create schema outbox;
    end if;
end
$$;

create table if not exists outbox.schema_history (
    name       text        primary key,
    kind       text        not null check (kind in ('migration', 'trigger')),
    version    integer     unique,  -- null for the scripts of sql/triggers/
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp(),
    check ((kind = 'migration') = (version is not null))
);
`

// remember records a file; a trigger script may be recorded again.
const remember = `insert into outbox.schema_history (name, kind, version, checksum)
values ($1::text, $2::text, nullif($3::integer, 0), $4::text)
on conflict (name) do update set checksum = excluded.checksum, applied_at = excluded.applied_at
where schema_history.kind = 'trigger'`

// record is one row of outbox.schema_history.
type record struct {
	name, checksum string
	version        int
	appliedAt      time.Time
}

// history is what a database says was done to it.
type history struct {
	schema     bool // schema outbox exists
	table      bool // and outbox.schema_history
	migrations []record
	triggers   map[string]record
}

// version is that of the last migration applied; 0 when there was none.
func (h history) version() int {
	if len(h.migrations) == 0 {
		return 0
	}
	return h.migrations[len(h.migrations)-1].version
}

// readHistory needs USAGE on schema outbox, where there is one.
func readHistory(ctx context.Context, conn *pgx.Conn) (history, error) {
	h := history{triggers: map[string]record{}}
	err := conn.QueryRow(ctx, `
		select exists (select from pg_catalog.pg_namespace where nspname = 'outbox'),
		       exists (select from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
		               where n.nspname = 'outbox' and c.relname = 'schema_history')`).Scan(&h.schema, &h.table)
	if err != nil || !h.table {
		return h, err
	}
	var (
		r    record
		kind string
	)
	rows, _ := conn.Query(ctx, `select name, kind, coalesce(version, 0), checksum, applied_at from outbox.schema_history order by version`)
	_, err = pgx.ForEachRow(rows, []any{&r.name, &kind, &r.version, &r.checksum, &r.appliedAt}, func() error {
		if kind == kindTrigger {
			h.triggers[r.name] = r
		} else {
			h.migrations = append(h.migrations, r)
		}
		return nil
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42703" { // no such column
		return h, errors.New("there is a table outbox.schema_history that is not ours: rename its schema, the name outbox is fixed")
	}
	return h, err
}

// verify says whether this binary may go on from here: the database must not
// know more than the binary, and what was applied must be what it has.
func (h history) verify(s scripts) error {
	if h.version() > s.latest() {
		return newerError(h.version(), s.latest())
	}
	for i, r := range h.migrations {
		f := s.migrations[i]
		switch {
		case r.version != f.version:
			return fmt.Errorf("outbox.schema_history has a gap: version %d is recorded, version %d is not", r.version, f.version)
		case r.name != f.name:
			return fmt.Errorf("version %d of this database is %s, in this binary it is %s: they do not belong together", r.version, r.name, f.name)
		case r.checksum != f.checksum:
			return fmt.Errorf("%s was changed after it was applied on %s: it has checksum %.12s in the database, %.12s in this binary",
				f.name, r.appliedAt.UTC().Format(time.DateTime), r.checksum, f.checksum)
		}
	}
	return nil
}

func newerError(database, binary int) error {
	return fmt.Errorf("this database has schema version %d, this binary knows %d: update listener", database, binary)
}
