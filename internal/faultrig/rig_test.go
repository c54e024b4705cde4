//go:build unix

package faultrig

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "the one seed to run; 0 runs a row of them")
	runsFlag   = flag.Int("runs", 0, "how many seeds to run; 0 is as many as begin within 8 s")
	forFlag    = flag.Duration("runs-for", 0, "no run of TestFaults begins after this; 0 is without a limit")
	firstFlag  = flag.Uint64("first", 1, "the first of them")
	eventsFlag = flag.Int("events", 0, "events to be committed in each run, at least; 0 is 200, or 80 where nobody says how many runs there are to be")
	quietFlag  = flag.Duration("quiet", 0, "how soon after the last fault of a run nothing may be left to do; 0 is without a limit, for a machine that does other things too")
	leaseFlag  = flag.Duration("lease", 3*time.Second, "leases of the listeners; 1 s, the shortest, needs a machine of its own, since one that stands still for longer loses them")
	outFlag    = flag.String("summary", "", "a file that gets the counts of all runs, as Markdown")
)

func TestMain(m *testing.M) {
	if os.Getenv(ProvidersEnv) != "" {
		os.Exit(ServeProviders())
	}
	if os.Getenv(clockEnv) != "" {
		os.Exit(printClock())
	}
	flag.Parse()
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the listener with failpoints.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// program builds the listener with failpoints, once, and returns its path.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "faultrig"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-tags=failpoint", "-o", filepath.Join(built.dir, "listener"),
			"github.com/outbox-listener/outbox-listener/cmd/listener").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "listener")
}

// worlds are the servers that runs share, one run at a time on each.
type worlds struct {
	program string
	pooled  bool // by a PgBouncer
	mu      sync.Mutex
	free    []*World
}

// newWorlds returns worlds whose servers are stopped when the test ends.
func newWorlds(t *testing.T) *worlds {
	t.Helper()
	w := &worlds{program: program(t)}
	t.Cleanup(func() {
		for _, one := range w.free {
			if err := one.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// play runs a plan and fails the test by what is wrong.
func (w *worlds) play(t *testing.T, plan Plan) (*Evidence, *Report) {
	t.Helper()
	world := w.get(t)
	defer w.put(world)
	dir, err := os.MkdirTemp("", "faultrig-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("log of the listeners, and the providers' ledger: %s", dir)
		} else {
			os.RemoveAll(dir)
		}
	}()
	ev, err := world.Run(t.Context(), plan, dir)
	if err != nil {
		t.Fatalf("the rig failed: %v\n%s", err, plan)
	}
	ev.QuietLimit = *quietFlag
	report := Check(ev)
	t.Logf("seed %d: %s", plan.Seed, report.line(ev))
	if len(report.Problems) > 0 {
		t.Error(report.Explain(ev))
	}
	return ev, report
}

// get returns a server that nobody uses.
func (w *worlds) get(t *testing.T) *World {
	t.Helper()
	w.mu.Lock()
	if n := len(w.free); n > 0 {
		one := w.free[n-1]
		w.free = w.free[:n-1]
		w.mu.Unlock()
		return one
	}
	w.mu.Unlock()
	one, err := NewWorld(t.Context(), w.program)
	if err != nil {
		t.Fatal(err)
	}
	if w.pooled {
		if err := one.Pool(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err, one.Close())
		}
	}
	return one
}

func (w *worlds) put(one *World) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = append(w.free, one)
}

// shortRuns are for how long runs begin where nobody says how many there are to
// be. It is from the beginning of the first one, and not of what is built for it.
const shortRuns = 8 * time.Second

// budget is the time within which runs begin.
type budget struct {
	mu    sync.Mutex
	begun time.Time
	most  time.Duration // 0 for no limit
}

// spend skips a test that would begin too late. The first never does.
func (b *budget) spend(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.begun.IsZero():
		b.begun = time.Now()
	case b.most > 0 && time.Since(b.begun) > b.most:
		t.Skipf("the %s within which runs begin are over; -runs and -runs-for have more", b.most)
	}
}

// everyPoint is how many runs come to each failpoint, all of them together.
const everyPoint = 500

// TestFaults: whatever comes upon them, listeners lose nothing, send nothing
// that was not committed, repeat nothing without a fault that explains it, and
// are quiet soon after the last one.
func TestFaults(t *testing.T) {
	all := newWorlds(t)
	all.pooled = *poolerFlag
	events := *eventsFlag
	switch {
	case events == 0 && *seedFlag == 0 && *runsFlag == 0:
		events = 80
	case events == 0:
		events = 200
	}
	seeds, left := []uint64{*seedFlag}, &budget{}
	if *seedFlag == 0 {
		seeds = nil
		n := *runsFlag
		if n == 0 {
			n, left.most = 6, shortRuns
		} else {
			left.most = *forFlag
		}
		for i := range n {
			seeds = append(seeds, *firstFlag+uint64(i))
		}
	}
	var total summary
	t.Cleanup(func() {
		total.log(t)
		if missed := total.missed(); total.runs >= everyPoint && len(missed) > 0 {
			t.Errorf("no listener came to %v in %d runs: does what is there happen at all?", missed, total.runs)
		}
		if *outFlag != "" {
			if err := os.WriteFile(*outFlag, []byte(total.markdown(seeds, events)), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			left.spend(t)
			defer sayAgain(t, seed, events, all.pooled)
			ev, report := all.play(t, NewPlan(seed, events, *leaseFlag))
			total.add(ev, report)
		})
	}
}

// sayAgain says how to do a run again that failed.
func sayAgain(t *testing.T, seed uint64, events int, pooled bool) {
	if !t.Failed() {
		return
	}
	more := ""
	if pooled {
		more = " -pgbouncer"
	}
	if *quietFlag > 0 {
		more += fmt.Sprintf(" -quiet %s", *quietFlag)
	}
	t.Logf("to do it again: go test ./internal/faultrig -run TestFaults -seed %d -events %d -lease %s%s", seed, events, *leaseFlag, more)
}

// TestPanics: a panic anywhere ends the process at once or costs one delivery;
// nothing goes on living that does nothing. One listener is alone with a few
// events.
func TestPanics(t *testing.T) {
	all, left := newWorlds(t), &budget{most: shortRuns}
	if *runsFlag > 0 {
		left.most = 0
	}
	for i, f := range failpoints {
		if f.name == "K13" || strings.HasPrefix(f.name, "K14") || strings.HasPrefix(f.name, "K16") { // it does not last long enough for these; as K6
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if f.name != "K15" { // which shows that listeners get words from the model
				left.spend(t)
			}
			plan := NewPlan(1000+uint64(i), 12, *leaseFlag)
			plan.Daemons, plan.Skews, plan.First, plan.Faults = 1, plan.Skews[:1], []string{f.name + "=panic"}, nil
			for i := range plan.Transactions {
				plan.Transactions[i].Begin /= 10
			}
			if f.name == "K15" {
				plan.Transactions[0].Rollback, plan.Transactions[0].Events[0].Type = false, "note.written"
			}
			if f.name == "K18" { // a retention begins within 3 s
				plan.Transactions[0].Begin = 6 * time.Second
			}
			if _, report := all.play(t, plan); len(report.Points) != 1 {
				t.Errorf("points that were hit: %v", report.Points)
			}
		})
	}
}
