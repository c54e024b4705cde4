package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// migrateWith runs `listener migrate` with args, as the command line has them.
func migrateWith(t *testing.T, databaseURL string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var cli struct {
		Migrate migrateCmd `cmd:""`
	}
	parser, err := kong.New(&cli, kong.Exit(func(int) { t.Fatal("kong exits") }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"migrate"}, args...)); err != nil {
		t.Fatalf("migrate %q: %v", args, err)
	}
	var out, log strings.Builder
	err = runMigrate(t.Context(), &cli.Migrate, databaseURL, &out, &log)
	return out.String(), log.String(), err
}

func wantWords(t *testing.T, got string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	url := db.URL + "&pool_max_conns=3" // which a plain connection would not understand
	if !strings.Contains(db.URL, "?") {
		url = db.URL + "?pool_max_conns=3"
	}
	run := func(args ...string) string {
		t.Helper()
		out, _, err := migrateWith(t, url, args...)
		if err != nil {
			t.Fatalf("migrate %q: %v", args, err)
		}
		return out
	}

	wantWords(t, run("status"), "version 0 of ", "not installed: run `listener migrate`", "0001_ledger.sql", "pending", "missing")
	pgtest.Exec(t, db, `create table outbox_events (id uuid primary key default gen_random_uuid(), type text not null, payload jsonb not null,
		created_at timestamptz not null default now(), processed_at timestamptz)`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('quote.sent', '{}')`)

	_, _, err := migrateWith(t, url)
	if _, ok := errors.AsType[*migrations.BacklogError](err); !ok {
		t.Fatalf("%v; want the question", err)
	}
	wantWords(t, run("--backlog", "skip"), "applied 0003_events_columns.sql", "adopted public.outbox_events; events that waited in it: 1", "schema outbox is at version ")
	wantWords(t, run(), " already\n")
	wantWords(t, run("up", "--backlog=36h"), "waiting events that are to be delivered: 1")
	wantWords(t, run("status"), ", up to date", "trigger outbox_events_wake", "enabled", "were created before", "left alone")

	var st migrations.Installed
	if err := json.Unmarshal([]byte(run("status", "--json")), &st); err != nil || !st.UpToDate || st.Version != st.Latest {
		t.Errorf("status --json: %+v, %v", st, err)
	}

	role := pgtest.Role(t, db, "daemon")
	wantWords(t, run("--grant", role), `role "`+role+`" has what the daemon needs`)
	if _, _, err := migrateWith(t, url, "--grant", role, "--grant", "nobody here"); err == nil {
		t.Error("a role that is not there was granted something")
	}

	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts)
		select id, id, 1, type, created_at, '', '', '', '', 'ready', 0 from outbox_events`)
	_, _, err = migrateWith(t, url, "uninstall")
	if err == nil {
		t.Fatal("removed with a delivery open")
	}
	wantWords(t, err.Error(), "1 ready", "--force")
	wantWords(t, run("uninstall", "--force"), "removed")
	wantWords(t, run("uninstall"), "nothing is installed")
}

func TestMigrateWarns(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, `create unlogged table outbox_events (id uuid primary key, type text not null, payload jsonb not null,
		created_at timestamptz not null, processed_at timestamptz)`)
	_, stderr, err := migrateWith(t, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, stderr, "warning: public.outbox_events is unlogged")
}

func TestMigratePrint(t *testing.T) {
	t.Parallel()
	out, _, err := migrateWith(t, "", "--print", "--backlog", "deliver")
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, out, "create schema outbox", "0004_events_seq_index.sql", "create trigger outbox_events_wake", "backlog          = 'deliver'")
	out, _, err = migrateWith(t, "", "--print", "--after", "3")
	if err != nil || strings.Contains(out, "0003_events") || !strings.Contains(out, "0004_events") {
		t.Errorf("--after 3 prints %q, %v", out, err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, url string
		args      []string
		want      string
	}{
		{"no database", "", nil, "DATABASE_URL is not set"},
		{"a bad choice", "postgres://localhost/x", []string{"--backlog", "maybe"}, `backlog "maybe" is not`},
		{"after without print", "postgres://localhost/x", []string{"--after", "3"}, "--after goes with --print"},
		{"a bad URL", "postgres://user:hunter2@localhost:port/x", nil, "DATABASE_URL: "},
		{"nobody there", "postgres://user:hunter2@127.0.0.1:1/x", nil, "connect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := migrateWith(t, tt.url, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v; want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}
