package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestInserts: what the programs insert is there, each event with its booking.
// Where a language and its driver are not on this machine, its program is not run.
func TestInserts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, string(read(t, "inserts", "insert.sql")))
	ran := 1
	for _, tt := range []struct {
		name     string
		required bool
		dir      string
		probe    []string // succeeds where the program can be run
		program  []string
	}{
		{"Go", true, "go", []string{"go", "version"}, []string{"go", "run", "."}},
		{"Python", false, "python", []string{"python3", "-c", "import psycopg"}, []string{"python3", "insert.py"}},
		{"Ruby", false, "ruby", []string{"ruby", "-e", "require 'pg'"}, []string{"ruby", "insert.rb"}},
		{"TypeScript", false, "typescript", []string{"node", "--experimental-strip-types", "--input-type=module", "-e", "import 'pg'"},
			[]string{"node", "--experimental-strip-types", "insert.ts"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := func(args []string) ([]byte, error) {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Dir = filepath.Join("inserts", tt.dir)
				cmd.Env = append(os.Environ(), "DATABASE_URL="+db.URL)
				return cmd.CombinedOutput()
			}
			if _, err := run(tt.probe); !tt.required && err != nil {
				t.Skipf("%s or its driver is not there", tt.name)
			}
			out, err := run(tt.program)
			if err != nil || !strings.HasPrefix(string(out), "booked ") {
				t.Fatalf("%v: %s", err, out)
			}
			ran++
		})
	}
	bookings := pgtest.QueryVals[string](t, db, `select id::text from bookings order by id`)
	events := pgtest.QueryVals[string](t, db, `select payload ->> 'bookingId' from outbox_events where type = 'booking.created' order by seq`)
	if len(bookings) != ran || !slices.Equal(bookings, events) {
		t.Errorf("%d programs ran; bookings %v, events for %v", ran, bookings, events)
	}
}
