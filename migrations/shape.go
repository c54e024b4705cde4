package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ShapeError says why a database cannot be migrated as it is. Nothing of it
// was changed.
type ShapeError struct {
	Problems []string // what is expected, and how to mend it
}

// Error implements error.
func (e *ShapeError) Error() string {
	return "this database cannot be migrated as it is; nothing was changed:\n  - " + strings.Join(e.Problems, "\n  - ")
}

// shape is what the catalog says of the events table and of our rights.
type shape struct {
	exists                bool
	problems, warnings    []string
	ours                  int      // how many of our columns there are
	missing               []string // which are not
	role, owner           string
	owns                  bool // role may alter the table
	schemaOwner           string
	ownsSchema            bool
	createPublic          bool
	createDatabase        bool
	foreignObjects        []string // what is in schema outbox besides ours
	foreignIndex          bool     // public.outbox_events_seq exists
	foreignSequence       bool     // public.outbox_events_seq_seq exists
	historyExists         bool
	versionBeforeAdoption bool
}

type column struct {
	typ      string // as format_type prints it, domains resolved
	nullable bool
}

// expected are the application's columns, in order.
var expected = []struct {
	name  string
	types []string
}{
	{"id", []string{"uuid"}},
	{"type", []string{"text", "character varying"}},
	{"payload", []string{"jsonb"}},
	{"created_at", []string{"timestamp with time zone"}},
	{"processed_at", []string{"timestamp with time zone"}},
}

// own are the columns that we add, in order.
var own = []struct{ name, typ string }{
	{"seq", "bigint"},
	{"lease_until", "timestamp with time zone"},
	{"claim", "uuid"},
}

// checkShape says whether what the next files do can be done. Everything
// that is in the way is in its error, a *ShapeError.
func checkShape(ctx context.Context, conn *pgx.Conn, h history) (shape, error) {
	s := shape{historyExists: h.table, versionBeforeAdoption: h.version() < adoption}
	if err := s.readRights(ctx, conn); err != nil {
		return s, err
	}
	if err := s.readTable(ctx, conn); err != nil {
		return s, err
	}
	s.judgeRights()
	if len(s.problems) > 0 {
		return s, &ShapeError{s.problems}
	}
	return s, nil
}

func (s *shape) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

func (s *shape) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

func (s *shape) readRights(ctx context.Context, conn *pgx.Conn) error {
	return conn.QueryRow(ctx, `
		select current_user::text,
		       coalesce(has_schema_privilege(to_regnamespace('public'), 'CREATE'), false),
		       has_database_privilege(current_database(), 'CREATE'),
		       coalesce((select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'outbox'), ''),
		       coalesce((select pg_has_role(nspowner, 'USAGE') from pg_namespace where nspname = 'outbox'), false),
		       array(select c.relname::text from pg_class as c where c.relnamespace = to_regnamespace('outbox') and c.relkind <> 'i'
		             union all select p.proname::text || '()' from pg_proc as p where p.pronamespace = to_regnamespace('outbox')
		             order by 1 limit 5),
		       to_regclass('public.outbox_events_seq') is not null,
		       to_regclass('public.outbox_events_seq_seq') is not null`).
		Scan(&s.role, &s.createPublic, &s.createDatabase, &s.schemaOwner, &s.ownsSchema, &s.foreignObjects, &s.foreignIndex, &s.foreignSequence)
}

// judgeRights says which rights are lacking for the files to come.
func (s *shape) judgeRights() {
	switch {
	case s.schemaOwner == "":
		if !s.createDatabase {
			s.problem("role %q may not create schema outbox: grant create on database to it, or let somebody who may run: create schema outbox authorization %s",
				s.role, pgx.Identifier{s.role}.Sanitize())
		}
	case !s.historyExists && len(s.foreignObjects) > 0:
		s.problem("there is a schema outbox that is not ours (it has %s): rename it, the name is fixed", strings.Join(s.foreignObjects, ", "))
	case !s.ownsSchema:
		s.problem("role %q does not own schema outbox: run this as %q, or: grant %s to %s", s.role, s.schemaOwner,
			pgx.Identifier{s.schemaOwner}.Sanitize(), pgx.Identifier{s.role}.Sanitize())
	}
	if s.versionBeforeAdoption && !s.createPublic {
		s.problem("role %q may not create anything in schema public (a sequence is needed there): grant create on schema public to %s",
			s.role, pgx.Identifier{s.role}.Sanitize())
	}
	if s.exists && !s.owns {
		s.problem("role %q does not own public.outbox_events: run this as its owner %q, or: grant %s to %s", s.role, s.owner,
			pgx.Identifier{s.owner}.Sanitize(), pgx.Identifier{s.role}.Sanitize())
	}
}

var relationKinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table",
	"S": "a sequence", "i": "an index", "I": "an index", "c": "a composite type",
}

func (s *shape) readTable(ctx context.Context, conn *pgx.Conn) error {
	var (
		kind, persistence      string
		partitionedBy          string
		partition, rls, parent bool
		key, publications      []string
	)
	err := conn.QueryRow(ctx, `
		select c.relkind::text, c.relpersistence::text, c.relispartition, c.relrowsecurity, c.relhassubclass,
		       pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'),
		       array(select a.attname::text
		             from pg_index as i, unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
		             join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
		             where i.indrelid = c.oid and i.indisprimary order by k.n),
		       array(select p.pubname::text from pg_publication_tables as p
		             where p.schemaname = 'public' and p.tablename = 'outbox_events' order by 1),
		       coalesce(pg_get_partkeydef(c.oid), '')
		from pg_class as c where c.oid = to_regclass('public.outbox_events')`).
		Scan(&kind, &persistence, &partition, &rls, &parent, &s.owner, &s.owns, &key, &publications, &partitionedBy)
	if err == pgx.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	s.exists = true
	partitioned := kind == "p" && !s.versionBeforeAdoption
	if partitioned {
		if err := s.judgePartitions(ctx, conn, partitionedBy); err != nil {
			return err
		}
	} else if kind == "p" {
		s.problem("public.outbox_events is a partitioned table; an ordinary table is needed here, which may be partitioned by our column seq once it is migrated: rename it and move its rows, and see docs/retention.md")
		return nil
	} else if kind != "r" {
		s.problem("public.outbox_events is %s; an ordinary table is needed: rename it and move its rows", relationKinds[kind])
		return nil
	}
	if partition {
		s.problem("public.outbox_events is a partition of another table; it must stand alone: alter table … detach partition public.outbox_events")
	}
	if parent && !partitioned {
		s.problem("other tables inherit from public.outbox_events; it must stand alone: alter table … no inherit public.outbox_events")
	}
	columns, err := readColumns(ctx, conn)
	if err != nil {
		return err
	}
	s.judgeColumns(columns)
	if !partitioned && (len(key) != 1 || key[0] != "id") {
		has := "none"
		if len(key) > 0 {
			has = "(" + strings.Join(key, ", ") + ")"
		}
		s.problem("the primary key of public.outbox_events must be (id), it has %s: create unique index concurrently outbox_events_id on public.outbox_events (id); "+
			"alter table public.outbox_events add primary key using index outbox_events_id", has)
	}
	if s.versionBeforeAdoption && s.ours == 0 {
		if s.foreignIndex {
			s.problem("there is something called public.outbox_events_seq already, which is the name of our index: rename it")
		}
		if s.foreignSequence && !s.historyExists {
			s.problem("there is a sequence public.outbox_events_seq_seq already, which is the name of ours: rename or drop it")
		}
	}
	if persistence == "u" {
		s.warn("public.outbox_events is unlogged: a crash of the server empties it, and with it every event that waits")
	}
	if rls {
		s.warn("public.outbox_events has row level security: the daemon's role needs a policy that shows it every row, or BYPASSRLS")
	}
	if len(publications) > 0 && s.ours < len(own) {
		s.warn("public.outbox_events is in publication %s: logical subscribers need our columns too (seq bigint, lease_until timestamptz, claim uuid), or a column list",
			strings.Join(publications, ", "))
	}
	return nil
}

// judgePartitions judges a table that was partitioned after it was adopted, as
// docs/retention.md says. Its index cannot be built concurrently, so that it
// must be there; its partitions have their primary keys themselves.
func (s *shape) judgePartitions(ctx context.Context, conn *pgx.Conn, by string) error {
	if by != "RANGE (seq)" {
		s.problem("public.outbox_events is partitioned by %s; it may be partitioned by RANGE (seq) alone: see docs/retention.md", by)
		return nil
	}
	state, err := indexState(ctx, conn, index{table: eventsTable, name: "outbox_events_seq"})
	if err == nil && state != indexValid {
		drop := ""
		if state == indexInvalid {
			drop = "drop index public.outbox_events_seq; "
		}
		s.problem("index outbox_events_seq of the partitioned table public.outbox_events is %s: %screate unique index outbox_events_seq on public.outbox_events (seq)", state, drop)
	}
	return err
}

func readColumns(ctx context.Context, conn *pgx.Conn) (map[string]column, error) {
	rows, err := conn.Query(ctx, `
		select a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), not a.attnotnull
		from pg_attribute as a join pg_type as t on t.oid = a.atttypid
		where a.attrelid = to_regclass('public.outbox_events') and a.attnum > 0 and not a.attisdropped`)
	if err != nil {
		return nil, err
	}
	columns := map[string]column{}
	var (
		name string
		c    column
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &c.typ, &c.nullable}, func() error {
		columns[name] = c
		return nil
	})
	return columns, err
}

// mends say how to get from a wrong type to the right one.
var mends = map[string]string{
	"timestamp without time zone": " using %s at time zone 'UTC' -- or the zone in which it was written",
	"json":                        " using %s::jsonb",
	"text":                        " using %s::%s",
	"character varying":           " using %s::%s",
}

func (s *shape) judgeColumns(columns map[string]column) {
	for _, e := range expected {
		want := e.types[0]
		c, ok := columns[e.name]
		if !ok {
			s.problem("column %s is missing: alter table public.outbox_events add column %s %s", e.name, e.name, want)
			continue
		}
		if !slices.Contains(e.types, c.typ) {
			mend, known := mends[c.typ]
			if !known || e.name == "id" && c.typ != "text" && c.typ != "character varying" {
				s.problem("column %s is %s, %s is needed; no statement turns the one into the other: give the table a new column %s and move the old one out of the way",
					e.name, c.typ, strings.Join(e.types, " or "), e.name)
				continue
			}
			if n := strings.Count(mend, "%s"); n > 0 {
				mend = fmt.Sprintf(mend, []any{e.name, want}[:n]...)
			}
			s.problem("column %s is %s, %s is needed (this rewrites the table): alter table public.outbox_events alter column %s type %s%s",
				e.name, c.typ, strings.Join(e.types, " or "), e.name, want, mend)
			continue
		}
		switch {
		case e.name == "processed_at" && !c.nullable:
			s.problem("column processed_at is not null; null must be possible, it means that the event waits: alter table public.outbox_events alter column processed_at drop not null")
		case e.name != "processed_at" && e.name != "id" && c.nullable:
			s.warn("column %s of public.outbox_events may be null; an event needs it: alter table public.outbox_events alter column %s set not null", e.name, e.name)
		}
	}
	var present, wrong []string
	for _, o := range own {
		c, ok := columns[o.name]
		if !ok {
			s.missing = append(s.missing, o.name)
			continue
		}
		s.ours++
		present = append(present, o.name)
		if c.typ != o.typ {
			wrong = append(wrong, o.name)
			s.problem("column %s is the application's own (%s); the name is needed for ours (%s): rename it", o.name, c.typ, o.typ)
		}
	}
	switch {
	case len(wrong) > 0 || s.ours == 0 && s.versionBeforeAdoption:
	case !s.versionBeforeAdoption:
		if len(s.missing) > 0 {
			s.problem("public.outbox_events has lost our columns (%s), so it is not the table that was migrated: run `listener migrate uninstall`, then `listener migrate`",
				strings.Join(s.missing, ", "))
		}
	case len(s.missing) > 0:
		s.problem("public.outbox_events has %s, but not %s, so they are the application's own; the names are needed for ours: rename them",
			strings.Join(present, " and "), strings.Join(s.missing, " and "))
	case !s.historyExists:
		s.problem("public.outbox_events has columns from an earlier installation (seq, lease_until, claim) whose schema outbox is gone: run `listener migrate uninstall`, then `listener migrate`")
	}
}
