package migrations_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// appTable is the table as the application has it.
const appTable = `create table public.outbox_events (
	id           uuid        primary key default gen_random_uuid(),
	type         text        not null,
	payload      jsonb       not null,
	created_at   timestamptz not null default now(),
	processed_at timestamptz
)`

// connect opens a connection, as the role whose name is given or else as the
// one that the database belongs to.
func connect(t testing.TB, db *pgtest.DB, role string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		config.User, config.Password = role, "secret"
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec runs a statement on one connection.
func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// up migrates and fails the test on an error.
func up(t testing.TB, db *pgtest.DB, opt migrations.Options) migrations.Report {
	t.Helper()
	rep, err := migrations.Up(t.Context(), connect(t, db, ""), opt)
	if err != nil {
		t.Fatalf("Up: %v", err)
	}
	return rep
}

// wantError fails the test unless err says each of the words.
func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// catalog describes all there is in a database, for comparison.
func catalog(t testing.TB, db *pgtest.DB) string {
	t.Helper()
	return strings.Join(pgtest.QueryVals[string](t, db, `
		select 'schema ' || nspname from pg_namespace
		where nspname !~ '^pg_(toast|temp)' and nspname not in ('pg_catalog', 'information_schema')
		union all
		select 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || array_to_string(array(select unnest(c.reloptions) order by 1), ',')
		from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
		where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
		union all
		select 'function ' || p.oid::regprocedure from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
		where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
		union all
		select 'column ' || concat_ws(' ', table_schema, table_name, column_name, data_type, is_nullable, column_default)
		from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')
		union all
		select 'trigger ' || pg_get_triggerdef(oid) || ' ' || tgenabled::text from pg_trigger where not tgisinternal
		union all
		select 'index ' || pg_get_indexdef(i.indexrelid) || ' ' || indisvalid
		from pg_index as i join pg_class as c on c.oid = i.indrelid join pg_namespace as n on n.oid = c.relnamespace
		where n.nspname !~ '^pg_'
		union all
		select 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint where conrelid <> 0
		order by 1`), "\n")
}

// onlyIn returns the lines of a that are not in b.
func onlyIn(a, b string) string {
	has := map[string]bool{}
	for line := range strings.Lines(b + "\n") {
		has[strings.TrimSpace(line)] = true
	}
	var lines []string
	for line := range strings.Lines(a + "\n") {
		if line = strings.TrimSpace(line); line != "" && !has[line] {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// sameCatalog fails the test unless both descriptions are equal.
func sameCatalog(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("the catalogs differ\nonly in the first:\n%s\nonly in the second:\n%s", onlyIn(got, want), onlyIn(want, got))
	}
}

// latest is the newest version, and all the number of files that lead to it.
var latest, all = func() (int, int) {
	numbered, _ := filepath.Glob("0*.sql")
	triggers, _ := filepath.Glob("../sql/triggers/*.sql")
	return len(numbered), len(numbered) + len(triggers)
}()

// from names the files from version on, in order.
func from(version int) string {
	numbered, _ := filepath.Glob("0*.sql")
	return strings.Join(numbered[version-1:], " ")
}

// quick is for tests that wait for locks on purpose.
var quick = migrations.Options{LockTimeout: 50 * time.Millisecond, Wait: 400 * time.Millisecond}
