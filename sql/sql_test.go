package sql_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
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
		if strings.Contains(query, "{{") {
			t.Errorf("%s has a place that nothing fills in", file)
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
	ours := map[string]bool{"outbox_events": true, "deliveries": true, "attempts": true, "state": true, "schema_history": true, "audit": true, "pauses": true, "brakes": true, "rates": true}
	target := regexp.MustCompile(`(?i)\b(?:from|join|into|update|table|only)\s+([\w.]+)`)
	for _, pattern := range []string{"queries/*.sql", "triggers/*.sql", "grants*.sql"} {
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

// TestClaimsOfNobody: each claim that is nobody's stands in one place, and says by its version that it is.
func TestClaimsOfNobody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ claim, word, query string }{
		{sql.Replaced, "{{replaced}}", "step_results"},
		{sql.PutOff, "{{put_off}}", "claim_events"},
	} {
		for _, pattern := range []string{"queries/*.sql", "triggers/*.sql", "grants*.sql"} {
			for _, file := range names(t, pattern) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), tt.claim) {
					t.Errorf("%s has a claim for which %s stands", file, tt.word)
				}
			}
		}
		if id, err := uuid.Parse(tt.claim); err != nil || id.Version() != 5 || !strings.Contains(sql.Query(tt.query), "'"+tt.claim+"'") {
			t.Errorf("%s, version %s: %v; a claim that is nobody's has version 5, and %s.sql asks for it", id, id.Version(), err, tt.query)
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
		if strings.Contains(s.SQL, "{{") {
			t.Errorf("%s has a place that nothing fills in", s.Name)
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

// TestStuck: whoever sets the state of a delivery also sets since when it is dead or
// held, and one that is sent and delivered has no new entry in an index.
func TestStuck(t *testing.T) {
	t.Parallel()
	writes := regexp.MustCompile(`insert into outbox\.deliveries|\bset state\b`)
	without := map[string]bool{
		"queries/announce_new.sql": true, "queries/announce_again.sql": true, // sending; what is dead or held is not announced
		"queries/replay_deliveries.sql": true, // ready
		"queries/record_alike.sql":      true, // delivered
	}
	for _, name := range names(t, "queries/*.sql") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if writes.Match(text) && strings.Contains(string(text), "stuck_at") == without[name] {
			t.Errorf("%s sets state: does it set stuck_at? %t", name, !without[name])
		}
	}
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('a', '{}')`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, claim)
		select id, id, seq, type, created_at, '', '', '', '', 'sending', 1, id from outbox_events`)
	conn := connect(t, db)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	id := pgtest.QueryVal[uuid.UUID](t, db, `select id from outbox.deliveries`)
	if _, err := tx.Exec(t.Context(), sql.Query("record_deliveries"), []uuid.UUID{id}, []uuid.UUID{id}, []string{"delivered"}, []int{1},
		[]*string{nil}, []*string{nil}, []*float64{nil}, []uuid.UUID{id}, []*string{nil}); err != nil {
		t.Fatal(err)
	}
	var all, hot int
	if err := tx.QueryRow(t.Context(), `select pg_stat_get_xact_tuples_updated(r), pg_stat_get_xact_tuples_hot_updated(r)
		from (select 'outbox.deliveries'::regclass::oid as r) as ledger`).Scan(&all, &hot); err != nil {
		t.Fatal(err)
	}
	if all != 1 || hot != 1 {
		t.Errorf("sending to delivered: %d updates, %d of them HOT", all, hot)
	}
}
