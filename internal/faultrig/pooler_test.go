//go:build unix

package faultrig

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var poolerFlag = flag.Bool("pgbouncer", false, "put a PgBouncer in transaction mode between listeners and database")

// poolerEnv says in an environment in which there has to be a PgBouncer that a test
// without one is no test.
const poolerEnv = "OUTBOX_TEST_PGBOUNCER"

// TestPgBouncer: behind a PgBouncer in transaction mode listeners keep what is
// promised, and find events by the sweep. TestFaults with -pgbouncer has more runs.
func TestPgBouncer(t *testing.T) {
	if path, err := FindPgBouncer(); err != nil && os.Getenv(poolerEnv) == "required" {
		t.Fatalf("%s=required, and there is none: %v", poolerEnv, err)
	} else if err != nil {
		t.Skipf("no PgBouncer here (apt-get install pgbouncer): %v", err)
	} else {
		t.Log(path)
	}
	all := newWorlds(t)
	all.pooled = true
	for seed := uint64(1); seed <= 3; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			defer sayAgain(t, seed, 80, true)
			all.play(t, NewPlan(seed, 80, *leaseFlag))
		})
	}
}
