package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

func TestUninstallRestoresTheCatalog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, setup string }{
		{"plain", appTable},
		{"with settings, index and trigger of its own", appTable + `;
			alter table outbox_events set (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.01);
			create index waiting on outbox_events (created_at) where processed_at is null;
			create function touch() returns trigger language plpgsql as 'begin return new; end';
			create trigger touch before update on outbox_events for each row execute function touch();
			create schema app; create table app.outbox (i int)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', jsonb_build_object('i', i) from generate_series(1, 100) as i`)
			const app = `select md5(string_agg((id, type, payload, created_at, processed_at)::text, ',' order by id)) from outbox_events`
			want, rows := catalog(t, db), pgtest.QueryVal[string](t, db, app)

			up(t, db, migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceDeliver}})
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('b', '{}')`)
			pgtest.Exec(t, db, `delete from outbox_events where type = 'b'`)
			if catalog(t, db) == want {
				t.Fatal("nothing was installed")
			}
			removed, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{})
			if err != nil || !removed {
				t.Fatalf("Uninstall: %t, %v", removed, err)
			}
			sameCatalog(t, catalog(t, db), want)
			if pgtest.QueryVal[string](t, db, app) != rows {
				t.Error("the application's rows were changed")
			}

			removed, err = migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{})
			if err != nil || removed {
				t.Errorf("once more: %t, %v", removed, err)
			}
			up(t, db, migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}})
		})
	}
}

func TestUninstallWhereNothingIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, setup string }{
		{"an empty database", `select`},
		{"the application's table", appTable},
		{"a seq of its own", appTable + `; alter table outbox_events add column seq bigserial`},
		{"another's schema outbox", `create schema outbox; create table outbox.deliveries (i int)`},
		{"a view", `create view outbox_events as select 1 as i`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			want := catalog(t, db)
			removed, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{Force: true})
			if err != nil || removed {
				t.Errorf("Uninstall: %t, %v", removed, err)
			}
			sameCatalog(t, catalog(t, db), want)
		})
	}
}

// What was installed in part goes, too.
func TestUninstallLeftovers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, sql string }{
		{"the schema was dropped", `drop schema outbox cascade`},
		{"the table was dropped", `drop table outbox_events`},
		{"the table was made anew", `drop table outbox_events; ` + appTable},
		{"the history stops at the ledger", `delete from outbox.schema_history where version > 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, tt.sql)
			removed, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{})
			if err != nil || !removed {
				t.Fatalf("Uninstall: %t, %v", removed, err)
			}
			if n := pgtest.QueryVal[int](t, db, `
				select (select count(*) from pg_namespace where nspname = 'outbox')
				     + (select count(*) from pg_class where relname = 'outbox_events_seq_seq')
				     + (select count(*) from information_schema.columns where table_name = 'outbox_events' and column_name in ('seq', 'lease_until', 'claim'))`); n != 0 {
				t.Errorf("%d things are left", n)
			}
			up(t, db, migrations.Options{})
		})
	}
}

func TestUninstallGuards(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)
	pgtest.Exec(t, db, `
		insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at)
		select gen_random_uuid(), gen_random_uuid(), 1, '', now(), '', '', '', '', s, 1, case when s = 'dead' then now() end
		from unnest(array['retry', 'retry', 'held', 'dead']) as s`)
	listener := connect(t, db, "")
	exec(t, listener, `set application_name = 'outbox-listener listen'`)

	_, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{})
	use, ok := errors.AsType[*migrations.InUseError](err)
	if !ok {
		t.Fatalf("Uninstall: %v; want an InUseError", err)
	}
	if len(use.Listeners) != 1 || use.Open["retry"] != 2 || use.Open["held"] != 1 || len(use.Open) != 2 {
		t.Errorf("%+v", use)
	}
	wantError(t, err, "nothing was removed", fmt.Sprintf("pid %d", listener.PgConn().PID()), "1 held, 2 retry", "--force")
	sameCatalog(t, catalog(t, db), want)

	exec(t, listener, `set application_name = 'psql'`)
	_, err = migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{})
	wantError(t, err, "1 held, 2 retry")

	if removed, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{Force: true}); err != nil || !removed {
		t.Errorf("with force: %t, %v", removed, err)
	}
}

func TestUninstallSparesWhatDependsOnUs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, sql, want string }{
		{"a view of the ledger", `create view failed as select * from outbox.deliveries where state = 'dead'`, "view public.failed depends on"},
		{"a view of our column", `create view places as select seq from outbox_events`, "view public.places depends on column seq"},
		{"a view in our schema", `create view outbox.mine as select 1 as i`, "view outbox.mine depends on schema outbox"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, tt.sql)
			want := catalog(t, db)
			_, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{Force: true})
			wantError(t, err, tt.want)
			sameCatalog(t, catalog(t, db), want)
		})
	}
}

// witness is called before each statement of a connection.
type witness func(statement string)

// TraceQueryStart implements pgx.QueryTracer.
func (w witness) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w(data.SQL)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (witness) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestUninstallCountsBeforeItLocks: while the ledger is read from end to end, which may
// take long, the application writes on.
func TestUninstallCountsBeforeItLocks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	app := connect(t, db, "")
	exec(t, app, `set lock_timeout = '100ms'`)
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	counted := 0
	config.Tracer = witness(func(statement string) {
		if !strings.Contains(statement, "from outbox.deliveries where finished_at is null") {
			return
		}
		counted++
		if _, err := app.Exec(t.Context(), `insert into outbox_events (type, payload) values ('a', '{}')`); err != nil {
			t.Errorf("an insert at count %d: %v", counted, err)
		}
	})
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	removed, err := migrations.Uninstall(t.Context(), conn, migrations.UninstallOptions{})
	if err != nil || !removed || counted != 2 {
		t.Errorf("Uninstall: %t, %v, after %d counts", removed, err, counted)
	}
}

func TestUninstallBusy(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)
	holder := connect(t, db, "")
	exec(t, holder, `begin; insert into outbox_events (type, payload) values ('a', '{}')`)
	_, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{Options: quick})
	wantError(t, err, "uninstall", fmt.Sprintf("pid %d", holder.PgConn().PID()), "nothing was left half done")
	sameCatalog(t, catalog(t, db), want)
}
