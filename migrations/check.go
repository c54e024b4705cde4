package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Querier is what Check needs of a connection or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// right is one privilege that sql/grants.sql gives, as Check asks for it.
type right struct {
	kind   string // what has_…_privilege is about
	object string
	column string // "" for the whole object
	name   string
}

var rights = []right{
	{"table", "public.outbox_events", "", "select"},
	{"column", "public.outbox_events", "processed_at", "update"},
	{"column", "public.outbox_events", "lease_until", "update"},
	{"column", "public.outbox_events", "claim", "update"},
	{"sequence", "public.outbox_events_seq_seq", "", "select"},
	{"table", "outbox.deliveries", "", "select"},
	{"table", "outbox.deliveries", "", "insert"},
	{"table", "outbox.deliveries", "", "update"},
	{"table", "outbox.attempts", "", "select"},
	{"table", "outbox.attempts", "", "insert"},
	{"table", "outbox.state", "", "select"},
	{"column", "outbox.state", "floor", "update"},
	{"table", "outbox.crashes", "", "select"},
	{"table", "outbox.crashes", "", "insert"},
	{"table", "outbox.crashes", "", "update"},
	{"table", "outbox.crashes", "", "delete"},
	{"table", "outbox.sms_counts", "", "select"},
	{"table", "outbox.sms_counts", "", "insert"},
	{"table", "outbox.sms_counts", "", "update"},
	{"table", "outbox.sms_counts", "", "delete"},
	{"table", "outbox.audit", "", "insert"},
	{"table", "outbox.pauses", "", "select"},
	{"table", "outbox.pauses", "", "insert"},
	{"table", "outbox.pauses", "", "delete"},
	{"table", "outbox.brakes", "", "select"},
	{"table", "outbox.brakes", "", "insert"},
	{"table", "outbox.brakes", "", "update"},
	{"table", "outbox.brakes", "", "delete"},
	{"table", "outbox.rates", "", "select"},
	{"table", "outbox.rates", "", "insert"},
	{"table", "outbox.rates", "", "update"},
	{"table", "outbox.rates", "", "delete"},
	{"function", "outbox.gate_open(integer)", "", "execute"},
}

// Check says whether the daemon can work with this database as its role. The
// error is one line that names the command to run. It only reads, and needs
// no right but to connect.
func Check(ctx context.Context, db Querier) error {
	all, err := load()
	if err != nil {
		return err
	}
	var (
		role                       string
		schema, usage, table, read bool
	)
	err = db.QueryRow(ctx, `
		select current_user::text,
		       n.oid is not null,
		       coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
		       c.oid is not null,
		       coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), false)
		from (select) as one
		left join pg_catalog.pg_namespace as n on n.nspname = 'outbox'
		left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = 'schema_history'`).
		Scan(&role, &schema, &usage, &table, &read)
	switch {
	case err != nil:
		return fmt.Errorf("checking the schema: %w", err)
	case !schema || !table:
		return errors.New("schema outbox is missing: run `listener migrate`")
	case !usage || !read:
		return fmt.Errorf("role %q may not use schema outbox: run `listener migrate --grant %s`", role, shellWord(role))
	}

	var version int
	var scripts []string
	err = db.QueryRow(ctx, `
		select coalesce(max(version), 0), coalesce(array_agg(name) filter (where kind = 'trigger'), '{}')
		from outbox.schema_history`).Scan(&version, &scripts)
	switch {
	case err != nil:
		return fmt.Errorf("checking the schema: %w", err)
	case version > all.latest():
		return newerError(version, all.latest())
	case version < all.latest():
		return fmt.Errorf("schema outbox is at version %d of %d: run `listener migrate`", version, all.latest())
	}
	for _, f := range all.triggers {
		if !slices.Contains(scripts, f.name) {
			return fmt.Errorf("trigger script %s was not applied: run `listener migrate`", f.name)
		}
	}

	var columns int
	err = db.QueryRow(ctx, `
		select count(*)
		from pg_catalog.pg_attribute as a
		join pg_catalog.pg_class as c on c.oid = a.attrelid
		join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
		where n.nspname = 'public' and c.relname = 'outbox_events' and not a.attisdropped
		  and a.attname in ('seq', 'lease_until', 'claim')`).Scan(&columns)
	if err != nil {
		return fmt.Errorf("checking the schema: %w", err)
	}
	if columns < len(own) {
		return errors.New(lostColumns)
	}
	if err := checkRights(ctx, db, role); err != nil {
		return err
	}
	return checkSeen(ctx, db, role)
}

func checkRights(ctx context.Context, db Querier, role string) error {
	var kinds, objects, columns, names []string
	for _, r := range rights {
		kinds, objects, columns, names = append(kinds, r.kind), append(objects, r.object), append(columns, r.column), append(names, r.name)
	}
	var lacking []string
	err := db.QueryRow(ctx, `
		select coalesce(array_agg(name || coalesce(' (' || nullif(col, '') || ')', '') || ' on ' || object order by n), '{}')
		from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality as r (kind, object, col, name, n)
		where not case
			when not pg_catalog.has_schema_privilege(split_part(object, '.', 1), 'USAGE') then false
			when kind = 'table'    then pg_catalog.has_table_privilege(object, name)
			when kind = 'column'   then pg_catalog.has_column_privilege(object, col, name)
			when kind = 'sequence' then pg_catalog.has_sequence_privilege(object, name)
			when kind = 'function' then pg_catalog.has_function_privilege(object, name)
		end`, kinds, objects, columns, names).Scan(&lacking)
	if err != nil {
		return fmt.Errorf("checking the rights of role %q: %w", role, err)
	}
	if len(lacking) > 0 {
		return fmt.Errorf("role %q lacks rights (%s): run `listener migrate --grant %s`", role, strings.Join(lacking, ", "), shellWord(role))
	}
	return nil
}

// shellWord quotes s where a shell would not take it as one word.
func shellWord(s string) string {
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@", r) {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
