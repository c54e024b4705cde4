package migrations_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

func TestWrongShapes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, setup string
		want        []string // one a problem
	}{
		{"a view", `create view outbox_events as select gen_random_uuid() as id`,
			[]string{"is a view"}},
		{"a materialized view", `create materialized view outbox_events as select gen_random_uuid() as id`,
			[]string{"is a materialized view"}},
		{"a partitioned table", `create table outbox_events (id uuid, at date) partition by range (at)`,
			[]string{"is a partitioned table"}},
		{"a partition", appTable + `; alter table outbox_events rename to all_events; alter table all_events rename constraint outbox_events_pkey to p;
			create table parent (like all_events) partition by list (type); drop table all_events;
			create table outbox_events partition of parent (primary key (id)) for values in ('a')`,
			[]string{"is a partition of another table"}},
		{"a parent", appTable + `; create table child () inherits (outbox_events)`,
			[]string{"other tables inherit"}},
		{"no primary key", appTable + `; alter table outbox_events drop constraint outbox_events_pkey`,
			[]string{"primary key of public.outbox_events must be (id), it has none: create unique index concurrently"}},
		{"another primary key", appTable + `; alter table outbox_events drop constraint outbox_events_pkey, add primary key (created_at, id)`,
			[]string{"must be (id), it has (created_at, id)"}},
		{"a missing column", appTable + `; alter table outbox_events drop column processed_at`,
			[]string{"column processed_at is missing: alter table public.outbox_events add column processed_at timestamp with time zone"}},
		{"payload is json", appTable + `; alter table outbox_events alter column payload type json`,
			[]string{"column payload is json, jsonb is needed", "using payload::jsonb"}},
		{"a time without zone", appTable + `; alter table outbox_events alter column created_at type timestamp`,
			[]string{"column created_at is timestamp without time zone", "using created_at at time zone 'UTC'"}},
		{"id is text", appTable + `; alter table outbox_events alter column id drop default, alter column id type text`,
			[]string{"column id is text, uuid is needed", "using id::uuid"}},
		{"type is an enum", `create type kind as enum ('a'); ` + appTable + `; alter table outbox_events alter column type type kind using 'a'`,
			[]string{"column type is public.kind, text or character varying is needed"}},
		{"processed_at not null", appTable + `; alter table outbox_events alter column processed_at set not null`,
			[]string{"drop not null"}},
		{"a seq of its own", appTable + `; alter table outbox_events add column seq bigserial`,
			[]string{"has seq, but not lease_until and claim, so they are the application's own"}},
		{"a claim of another type", appTable + `; alter table outbox_events add column claim text`,
			[]string{"column claim is the application's own (text)"}},
		{"columns left over", appTable + `; alter table outbox_events add column seq bigint, add column lease_until timestamptz, add column claim uuid`,
			[]string{"run `listener migrate uninstall`"}},
		{"the name of our index", appTable + `; create index outbox_events_seq on outbox_events (created_at)`,
			[]string{"public.outbox_events_seq already"}},
		{"the name of our sequence", appTable + `; create sequence outbox_events_seq_seq`,
			[]string{"sequence public.outbox_events_seq_seq already"}},
		{"a schema outbox of somebody else", `create schema outbox; create table outbox.messages (i int)`,
			[]string{"schema outbox that is not ours (it has messages)"}},
		{"another's schema history", `create schema outbox; create table outbox.schema_history (version text)`,
			[]string{"outbox.schema_history that is not ours"}},
		{"all at once", `create table outbox_events (id text, type int, payload text, created_at date)`,
			[]string{"column id is text", "column type is integer", "column payload is text", "using payload::jsonb", "column created_at is date",
				"column processed_at is missing", "it has none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			before := catalog(t, db)
			_, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{})
			wantError(t, err, tt.want...)
			sameCatalog(t, catalog(t, db), before)
		})
	}
}

// TestWrongPartitions: a migrated table may be partitioned in one way only, and
// has to have its index then.
func TestWrongPartitions(t *testing.T) {
	t.Parallel()
	const swap = `drop trigger outbox_events_wake on outbox_events; drop trigger outbox_events_seq on outbox_events;
		drop trigger outbox_events_reopen on outbox_events; alter table outbox_events rename to first; alter index outbox_events_seq rename to first_seq;
		create table outbox_events (like first including defaults) partition by `
	for _, tt := range []struct{ name, by, want string }{
		{"by another column", `range (created_at)`, "is partitioned by RANGE (created_at); it may be partitioned by RANGE (seq) alone"},
		{"by hash", `hash (seq)`, "is partitioned by HASH (seq)"},
		{"without the index", `range (seq)`, "is missing: create unique index outbox_events_seq on public.outbox_events (seq)"},
		{"with the index of one partition", `range (seq); create table p partition of outbox_events for values from (1) to (10);
			create unique index outbox_events_seq on only outbox_events (seq)`,
			"is invalid: drop index public.outbox_events_seq; create unique index"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			exec(t, connect(t, db, ""), swap+tt.by, pgx.QueryExecModeSimpleProtocol)
			before := catalog(t, db)
			_, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{})
			wantError(t, err, tt.want)
			sameCatalog(t, catalog(t, db), before)
		})
	}
}

// TestMends: following what the error says leads to a migrated database.
func TestMends(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, `create table outbox_events (id text, type text not null, payload json not null, created_at timestamp not null default now(), processed_at timestamptz not null)`)
	pgtest.Exec(t, db, `insert into outbox_events values (gen_random_uuid()::text, 'a', '{}', now(), now())`)
	var err error
	for range 3 {
		_, err = migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{})
		if err == nil {
			return
		}
		shape, ok := errors.AsType[*migrations.ShapeError](err)
		if !ok {
			t.Fatal(err)
		}
		for _, p := range shape.Problems {
			_, mend, _ := strings.Cut(p, ": ")
			if index, alter, ok := strings.Cut(mend, "; "); ok {
				pgtest.Exec(t, db, index)
				mend = alter
			}
			pgtest.Exec(t, db, mend)
		}
	}
	t.Errorf("mending does not end: %v", err)
}

func TestShapesThatWillDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, setup, warning string }{
		{"varchar, more columns, another order", `create table outbox_events (tenant int not null default 1, processed_at timestamptz,
			created_at timestamptz not null default now(), payload jsonb not null, type varchar(100) not null, id uuid primary key)`, ""},
		{"a domain over text", `create domain kind as text; ` + appTable + `; alter table outbox_events alter column type type kind`, ""},
		{"unlogged", strings.Replace(appTable, "create table", "create unlogged table", 1), "is unlogged"},
		{"row level security", appTable + `; alter table outbox_events enable row level security`, "row level security"},
		{"a type that may be null", appTable + `; alter table outbox_events alter column type drop not null`, "column type of public.outbox_events may be null"},
		{"published", appTable + `; create publication everything for all tables`, "in publication everything"},
		{"an empty schema made beforehand", `create schema outbox`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			rep := up(t, db, migrations.Options{})
			if rep.To != latest {
				t.Errorf("report %+v", rep)
			}
			if got := strings.Join(rep.Warnings, "\n"); tt.warning == "" && got != "" || !strings.Contains(got, tt.warning) {
				t.Errorf("warnings %q, want %q", got, tt.warning)
			}
		})
	}
}

func TestRightsToMigrate(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	role := pgtest.Role(t, db, "deploy")
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `revoke create on schema public from public`) // as from PostgreSQL 15 on
	before := catalog(t, db)
	_, err := migrations.Up(t.Context(), connect(t, db, role), migrations.Options{})
	wantError(t, err,
		"may not create schema outbox", "create schema outbox authorization",
		"may not create anything in schema public",
		"does not own public.outbox_events")
	sameCatalog(t, catalog(t, db), before)

	// With exactly what it asks for.
	pgtest.Exec(t, db, `create schema outbox authorization `+role)
	pgtest.Exec(t, db, `grant create on schema public to `+role)
	pgtest.Exec(t, db, `alter table outbox_events owner to `+role)
	if _, err := migrations.Up(t.Context(), connect(t, db, role), migrations.Options{}); err != nil {
		t.Error(err)
	}
	other := pgtest.Role(t, db, "other")
	pgtest.Exec(t, db, `grant usage on schema outbox to `+other)
	pgtest.Exec(t, db, `grant select on outbox.schema_history, outbox.state to `+other)
	pgtest.Exec(t, db, `drop trigger outbox_events_wake on outbox_events`)
	_, err = migrations.Up(t.Context(), connect(t, db, other), migrations.Options{})
	wantError(t, err, "does not own schema outbox", "does not own public.outbox_events")
}

// A table that was dropped and made anew has lost what we know about it.
func TestTableMadeAnew(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `drop table outbox_events`)
	pgtest.Exec(t, db, appTable)
	conn := connect(t, db, "")
	_, err := migrations.Up(t.Context(), conn, migrations.Options{})
	wantError(t, err, "lost our columns", "listener migrate uninstall")
	wantError(t, migrations.Check(t.Context(), db.Pool), "our columns are gone", "listener migrate uninstall")
	if _, err := migrations.Uninstall(t.Context(), conn, migrations.UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
	up(t, db, migrations.Options{})
}
