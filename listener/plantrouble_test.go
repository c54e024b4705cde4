package listener

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestTroubles: of a type whose plans fail one is planned in a second, until one succeeds; what is an
// event's own fault says nothing of others.
func TestTroubles(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("lookup x: %w", &pgconn.PgError{Code: "42P01"})
	for _, tt := range []struct {
		name string
		then func(ts *planTroubles) // after one less than it takes
		kept bool
	}{
		{"too few", func(*planTroubles) {}, false},
		{"enough", func(ts *planTroubles) { ts.failed("bad", away) }, true},
		{"what is no error of the database's", func(ts *planTroubles) { ts.failed("bad", errors.New("away")) }, true},
		{"one by its own data", func(ts *planTroubles) { ts.failed("bad", fmt.Errorf("lookup x: %w", &pgconn.PgError{Code: "22012"})) }, false},
		{"one that a function refused", func(ts *planTroubles) { ts.failed("bad", &pgconn.PgError{Code: "P0001"}) }, false},
		{"one of another type", func(ts *planTroubles) { ts.failed("other", away) }, false},
		{"one between them that was planned", func(ts *planTroubles) { ts.planned("bad"); ts.failed("bad", away) }, false},
		{"one of another type between them", func(ts *planTroubles) { ts.planned("other"); ts.failed("bad", away) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ts planTroubles
				for range unplannedInRow - 1 {
					ts.failed("bad", away)
				}
				tt.then(&ts)
				if err := ts.keep("bad"); (err != nil) != tt.kept {
					t.Fatalf("kept: %v, want %t", err, tt.kept)
				}
				if err := ts.keep("fine"); err != nil {
					t.Errorf("another type is kept: %v", err)
				}
				time.Sleep(planProbeEvery)
				if err := ts.keep("bad"); err != nil {
					t.Errorf("none is tried after a second: %v", err)
				}
				if err := ts.keep("bad"); (err != nil) != tt.kept {
					t.Errorf("beside one that is tried: %v, want kept: %t", err, tt.kept)
				}
				ts.planned("bad")
				if err := ts.keep("bad"); err != nil {
					t.Errorf("after one was planned: %v", err)
				}
			})
		})
	}
}
