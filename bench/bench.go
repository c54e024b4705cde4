// Package bench measures the listener: the real program, run as processes
// against a real Postgres with fsync on, beside other programs that do the
// same work. Each scenario is one file; Run runs them and writes a report.
//
// Variants that are compared run in turn, round by round, so that a machine
// that is slow for a minute is slow for all of them. Figures are medians over
// the rounds, and a ratio is taken within each round first.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options says what to measure. The zero value measures everything with five
// rounds, on a Postgres of its own.
type Options struct {
	Only     []string // names of scenarios; empty means all
	Part     string   // PartLong, PartShort, or "" for all scenarios; Only goes before it
	Rounds   int      // 0 means 5, or 1 with Quick
	Quick    bool     // about a twentieth of the size: shows that it works, and judges no figure
	Out      string   // folder of the reports; "" means bench/results
	NoPeers  bool     // leave the other programs out
	Peers    string   // folder of the other programs; "" means bench/peers
	Database string   // a server to use, as a URL whose role may create databases; "" starts a private one

	// SizeProcessed is how many processed rows the scenario "size" builds. 0
	// means 10,000,000, or a twentieth of it with Quick.
	SizeProcessed int

	Listener string    // path of the listener; "" means this very program
	Version  string    // of this program, where git does not know its commit
	Command  string    // as it was typed; for the report
	Stdout   io.Writer // gets the progress and the final table; nil discards them
}

// Parts of a run, each of which takes about as long as the other.
const (
	PartLong  = "long"  // what needs large tables, or minutes of events
	PartShort = "short" // the others
)

// A scenario measures one thing.
type scenario struct {
	name string // as in --only
	what string // one line for people
	part string
	run  func(ctx context.Context, r *run, res *result) error

	// cannot says why the scenario cannot run here; nil, or "" for an answer,
	// where it can.
	cannot func(ctx context.Context, r *run) (string, error)
}

// scenarios are all of them, in the order in which they run.
var scenarios = []scenario{
	{"insert", "what the application's inserts cost", PartShort, insertCost, insertCannot},
	{"drain", "a backlog of events that go nowhere, 1000 a batch", PartShort, drain, nil},
	{"drain10", "the same with the default batch of 10", PartShort, drain10, nil},
	{"script", "the same against a loop that only writes the rows", PartShort, script, nil},
	{"limit", "what writing the rows alone allows, beside the listener and River", PartShort, limit, nil},
	{"webhook", "a backlog of signed webhooks", PartShort, webhooks, nil},
	{"latency", "from COMMIT to the first byte at the receiver", PartShort, latency, nil},
	{"wake", "commits while the listener falls asleep", PartShort, wake, nil},
	{"wal", "bytes of write-ahead log for an event", PartShort, wal, walCannot},
	{"share", "three listeners on one backlog", PartShort, share, nil},
	{"idle", "what a sleeping listener costs", PartShort, idle, noSchedstat},
	{"start", "from launch to the first delivery", PartShort, start, nil},
	{"size", "a large table against a small one", PartLong, tableSize, nil},
	{"steady", "1,000 events a second beside a long past", PartLong, steady, walCannot},
	{"retention", "a drain while what is too old is deleted", PartLong, retention, nil},
	{"snapshot", "an old snapshot while events pass", PartLong, snapshot, nil},
	{"slow", "one receiver of 21 that hangs", PartLong, slow, nil},
	{"stuck", "one delivery that hangs while events pass", PartLong, stuck, nil},
	{"memory", "the most memory while draining", PartLong, memory, noProc},
}

// Names returns the names of the scenarios.
func Names() []string {
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = s.name
	}
	return names
}

// run is one run of the benchmark.
type run struct {
	Options
	server *server
	peers  []*peer
	notes  []string // for the report: what was left out, and why
	self   string   // path of the listener
	temp   string   // a folder for processes to be in
}

// Run measures and returns the path of the report. A scenario that fails is
// in the report with its error, the others go on, and Run's error names it. One
// that cannot run here is in the report with the reason. Neither that nor a
// target that is not met is an error.
func Run(ctx context.Context, o Options) (report string, err error) {
	r, err := newRun(o)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(r.temp)
	chosen, err := choose(r.Only, r.Part)
	if err != nil {
		return "", err
	}
	m := describeMachine(ctx, r)
	if r.server, err = openServer(ctx, r.Database, nil); err != nil {
		return "", fmt.Errorf("starting Postgres: %w", err)
	}
	defer func() { err = errors.Join(err, r.server.close()) }()
	if m.postgres, err = r.server.describe(ctx); err != nil {
		return "", err
	}
	if r.Database != "" {
		r.note("The server was given (--database): whatever else it does counts too, and its settings are as they are.")
	}
	if r.server.noCheckpoint {
		r.note("The role may not CHECKPOINT, so that a checkpoint may fall into any of the runs.")
	}
	r.findPeers(ctx, chosen)
	if !r.Quick { // which judges nothing
		m = m.awaitQuiet(ctx, r)
	}
	if m.busy() {
		r.note("The machine was busy when the run began (load %s on %d processors): do not trust its figures.", m.load, m.cores)
	}

	var results []*result
	var failed []error
	for _, s := range chosen {
		res := &result{name: s.name, what: s.what, progress: r.say, small: r.Quick}
		begun := time.Now()
		r.say("%s: %s", s.name, s.what)
		if res.err = s.runOn(ctx, r, res); res.err != nil {
			if ctx.Err() != nil {
				res.err = errors.New("stopped")
			}
			r.say("%s failed: %v", s.name, res.err)
			failed = append(failed, fmt.Errorf("%s: %w", s.name, res.err))
			res.checks = nil // a part of the rounds is held against nothing
		}
		res.took = time.Since(begun)
		for _, c := range res.checks {
			r.say("  %-58s %s", c.what, c.verdict())
		}
		results = append(results, res)
		if ctx.Err() != nil {
			break
		}
	}
	for _, l := range r.server.left {
		r.note("%s", l)
	}
	report, err = writeReport(r, m, results)
	if err != nil {
		return "", err
	}
	r.say("\n%s\n\n%s\n\nreport: %s", table(results), durations(results), report)
	return report, errors.Join(failed...)
}

// runOn runs s, unless it cannot be run here.
func (s scenario) runOn(ctx context.Context, r *run, res *result) error {
	if s.cannot != nil {
		var err error
		if res.cannot, err = s.cannot(ctx, r); err != nil {
			return err
		}
		if res.cannot != "" {
			r.say("%s cannot be run: %s", s.name, res.cannot)
			return nil
		}
	}
	return s.run(ctx, r, res)
}

func newRun(o Options) (*run, error) {
	r := &run{Options: o, self: o.Listener}
	if r.Stdout == nil {
		r.Stdout = io.Discard
	}
	if r.Rounds == 0 {
		r.Rounds = 5
		if r.Quick {
			r.Rounds = 1
		}
	}
	if r.Out == "" {
		r.Out = filepath.Join("bench", "results")
	}
	if r.Peers == "" {
		r.Peers = filepath.Join("bench", "peers")
	}
	var err error
	if r.self == "" {
		if r.self, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if r.self, err = filepath.Abs(r.self); err != nil {
		return nil, err
	}
	r.temp, err = os.MkdirTemp("", "outbox-bench-")
	return r, err
}

func choose(only []string, part string) ([]scenario, error) {
	var chosen []scenario
	if len(only) == 0 {
		for _, s := range scenarios {
			if part == "" || s.part == part {
				chosen = append(chosen, s)
			}
		}
		if len(chosen) == 0 {
			return nil, fmt.Errorf("there is no part %q of a run; there are %s and %s", part, PartShort, PartLong)
		}
		return chosen, nil
	}
	for _, name := range only {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--only %s: there is no such scenario; there are %s", name, strings.Join(Names(), ", "))
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// say prints one line of progress.
func (r *run) say(format string, args ...any) { fmt.Fprintf(r.Stdout, format+"\n", args...) }

// note keeps a line for the report, and prints it.
func (r *run) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, line)
	r.say("%s", line)
}

// size returns full, or a twentieth of it with --quick.
func (r *run) size(full int) int {
	if r.Quick {
		return max(full/20, 1)
	}
	return full
}

// pick returns full, or quick with --quick.
func pick[T any](r *run, full, quick T) T {
	if r.Quick {
		return quick
	}
	return full
}
