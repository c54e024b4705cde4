package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/sql"
)

// TestMystosGrants: the rights that docs/from-mystos.md names are those that the routes of
// MystOS need, and none of them can be left out.
func TestMystosGrants(t *testing.T) {
	t.Parallel()
	read := func(path ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var grants []string
	for line := range strings.Lines(read("docs", "from-mystos.md")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "grant ") {
			grants = append(grants, line)
		}
	}
	if len(grants) != 4 {
		t.Fatalf("%d grants on the page", len(grants))
	}
	providers, err := startStandins()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { providers.close() })
	for without := range len(grants) + 1 { // the last is without none of them
		db := pgtest.New(t)
		pgtest.Exec(t, db, read("examples", "mystos", "schema.sql"))
		role := pgtest.Role(t, db, "daemon")
		pgtest.Exec(t, db, sql.Grants(role))
		for i, g := range grants {
			if i != without {
				pgtest.Exec(t, db, strings.ReplaceAll(g, "outbox_daemon", role))
			}
		}
		env := providers.env()
		env["DATABASE_URL"], env["OUTBOX_ROUTES"] = asRole(t, db, role), filepath.Join(root, "examples", "mystos", "routes.yaml")
		got, _ := runChecked(t, env, "--offline")
		if enough := without == len(grants); (got.Problems == 0) != enough {
			t.Errorf("without grant %d of %d: %d problems: %v", without+1, len(grants), got.Problems, got.Findings)
		}
	}
}
