package sql_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/sql"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func names(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files
}

func connect(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// daemon returns a connection whose role has what grants.sql gives, the right
// that OUTBOX_RETAIN_PROCESSED asks for, and no more.
func daemon(t *testing.T) *pgx.Conn {
	t.Helper()
	db := pgtest.New(t)
	role := pgx.Identifier{db.Name + "-daemon"}.Sanitize() // needs its quotes
	pgtest.Exec(t, db, `create role `+role)
	t.Cleanup(func() {
		pgtest.Exec(t, db, `drop owned by `+role)
		pgtest.Exec(t, db, `drop role `+role)
	})
	pgtest.Exec(t, db, sql.Grants(role))
	pgtest.Exec(t, db, `grant delete on public.outbox_events to `+role)
	conn := connect(t, db)
	if _, err := conn.Exec(t.Context(), `set role `+role); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestQueries: each query fits the schema, and the daemon's role may run it.
func TestQueries(t *testing.T) {
	t.Parallel()
	conn := daemon(t)
	for _, file := range names(t, "queries/*.sql") {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "queries/"), ".sql")
		query := sql.Query(name)
		if !strings.HasPrefix(query, "-- ") {
			t.Errorf("%s does not begin by saying what it is for", file)
		}
		if strings.Contains(query, "\r") {
			t.Errorf("%s has CRLF line ends", file)
		}
		prepared, err := conn.Prepare(t.Context(), name, query)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		// Rights are looked at when a statement is about to run; EXPLAIN goes
		// as far as that.
		execute := "explain execute " + name
		if n := len(prepared.ParamOIDs); n > 0 {
			execute += "(null" + strings.Repeat(", null", n-1) + ")"
		}
		if _, err := conn.Exec(t.Context(), execute); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestQueriesAreQualified: a search_path must not decide what is read.
func TestQueriesAreQualified(t *testing.T) {
	t.Parallel()
	ours := map[string]bool{"outbox_events": true, "deliveries": true, "attempts": true, "state": true, "schema_history": true}
	target := regexp.MustCompile(`(?i)\b(?:from|join|into|update|table|only)\s+([\w.]+)`)
	for _, pattern := range []string{"queries/*.sql", "triggers/*.sql", "grants.sql"} {
		for _, file := range names(t, pattern) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(string(text), "\n") {
				line, _, _ = strings.Cut(line, "--")
				for _, m := range target.FindAllStringSubmatch(line, -1) {
					if ours[m[1]] {
						t.Errorf("%s:%d: %s without its schema", file, i+1, m[1])
					}
				}
			}
		}
	}
}

func TestUnknownQuery(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, `no query "nothing"`) {
			t.Errorf("panicked with %s", got)
		}
	}()
	sql.Query("nothing")
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	scripts := sql.Triggers()
	if len(scripts) != len(names(t, "triggers/*.sql")) {
		t.Errorf("%d scripts", len(scripts))
	}
	header := regexp.MustCompile(`^-- creates: trigger (\w+) on public\.outbox_events\n`)
	for _, s := range scripts {
		m := header.FindStringSubmatch(s.SQL)
		if m == nil {
			t.Errorf("%s does not say which trigger it creates", s.Name)
			continue
		}
		for range 2 { // a script replaces what it made before
			pgtest.Exec(t, db, s.SQL)
		}
		if n := pgtest.QueryVal[int](t, db, `select count(*) from pg_trigger where tgname = $1 and tgrelid = 'public.outbox_events'::regclass`, m[1]); n != 1 {
			t.Errorf("%s made %d triggers %s", s.Name, n, m[1])
		}
	}

	// A function that anybody may call, or that looks things up where the
	// caller says, would be a way in.
	for _, bad := range pgtest.QueryVals[string](t, db, `
		select p.oid::regprocedure::text from pg_proc as p
		where p.pronamespace = 'outbox'::regnamespace
		  and (has_function_privilege('public', p.oid, 'execute')
		       or p.proconfig is null or not 'search_path=pg_catalog, pg_temp' = any (p.proconfig))`) {
		t.Errorf("function %s may be called by everybody, or has no search_path of its own", bad)
	}
}

// TestPlansThatAreKept: claims and fresh records walk their index whatever the
// statistics say, also by a plan that was made while the table was empty and
// is kept for later.
func TestPlansThatAreKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		query, joins string
		scans        int // of the table, each by the index
	}{
		{"claim_events", "set enable_hashjoin = off", 2},
		{"record_fresh", "set enable_nestloop = off", 1},
	} {
		for _, table := range []string{"empty", "filled"} {
			t.Run(tt.query+" "+table, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				if table == "filled" {
					pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', '{}' from generate_series(1, 1000)`)
				}
				pgtest.Exec(t, db, `vacuum analyze outbox_events`)
				pgtest.Exec(t, db, `vacuum analyze outbox.deliveries`)
				conn := connect(t, db)
				if _, err := conn.Exec(t.Context(), `set enable_seqscan = off; set enable_bitmapscan = off; set enable_mergejoin = off;
					set plan_cache_mode = force_generic_plan; `+tt.joins); err != nil {
					t.Fatal(err)
				}
				plan := explain(t, conn, tt.query)
				scan := regexp.MustCompile(`using outbox_events_seq on outbox_events( e)?  .*\n +Index Cond: `)
				if n := len(scan.FindAllString(plan, -1)); n != tt.scans || strings.Count(plan, "on outbox_events") != tt.scans+1 {
					t.Errorf("%d scans of the table by its index, want %d and no other; the plan is\n%s", n, tt.scans, plan)
				}
				if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Nested Loop") {
					t.Errorf("the plan is\n%s", plan)
				}
			})
		}
	}
}

func explain(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	prepared, err := conn.Prepare(t.Context(), query, sql.Query(query))
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := conn.Query(t.Context(), "explain execute "+query+"(null"+strings.Repeat(", null", len(prepared.ParamOIDs)-1)+")", pgx.QueryExecModeSimpleProtocol)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
