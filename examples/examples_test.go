package examples_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// read returns a file of the examples.
func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// load reads the routes of an example, with these variables set.
func load(t testing.TB, example string, env map[string]string) *routes.Routes {
	t.Helper()
	name := filepath.Join(example, "routes.yaml")
	r, err := routes.Load(name, read(t, name), routes.Options{Env: func(v string) (string, bool) { s, ok := env[v]; return s, ok }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withSchema returns a database with the ledger and an example's own tables.
func withSchema(t testing.TB, example string) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	pgtest.Exec(t, db, string(read(t, example, "schema.sql")))
	return db
}

// TestStatements: the database accepts each statement of each example, and its
// rows have all that the texts read of them.
func TestStatements(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/routes.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		example := filepath.Dir(file)
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			db, r := withSchema(t, example), load(t, example, nil)
			reader := &query.Reader{Pool: db.Pool}
			columns := map[string]bool{}
			for _, l := range r.Lookups() {
				plan, err := reader.Explain(t.Context(), l.Query)
				if err != nil {
					t.Errorf("%s, lookup %s of %s: %v", file, l.Name, l.Route, err)
				}
				for _, c := range plan.Columns {
					columns[l.Route+" "+l.Name+" "+c] = true
				}
			}
			for _, s := range r.Statements() {
				if _, err := reader.ExplainStatement(t.Context(), s.Query, r.SQLRole()); err != nil {
					t.Errorf("%s, step %s of %s: %v", file, s.Step, s.Route, err)
				}
			}
			for _, u := range r.Uses() {
				if !columns[u.Route+" "+u.Lookup+" "+u.Column] {
					t.Errorf("%s:%d:%d: the lookup %s has no column %s", file, u.Line, u.Place.Column, u.Lookup, u.Column)
				}
			}
		})
	}
}
