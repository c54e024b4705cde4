//go:build unix

package faultrig

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/evidence"
)

// line is a run in a line.
func (r *Report) line(ev *Evidence) string {
	return fmt.Sprintf("%d daemons, batch %d, %d workers, %d events, %d accepted, again with licence %v, SMS found %d, held %v, given up %v, %d take-overs, %d leases left by SIGKILL and taken over %s late at most, %d pauses asked for, p99 of inserts %s, %s at most, %d files, faults %v, points %v; quiet after %s, took %s",
		ev.Plan.Daemons, ev.Plan.Batch, ev.Plan.Workers, r.Committed, r.Accepted, r.Licences, r.Found, r.Held, r.GivenUp, r.Takeovers, r.Resumed, r.LastResumed.Round(time.Millisecond), r.Paused,
		r.InsertP99.Round(time.Microsecond), r.InsertMost.Round(time.Microsecond), ev.Files, r.Faults, r.Points,
		ev.Quiet.Round(time.Millisecond), ev.Took.Round(time.Millisecond))
}

// summary adds up runs.
type summary struct {
	mu                                         sync.Mutex
	runs, committed, rolled, unclear, accepted int
	found, takeovers, problems                 int
	held, givenUp                              map[string]int // by channel
	lying                                      int            // runs
	pruned                                     int            // old events
	daemons                                    [4]int
	batches, workers                           map[int]int
	again, licences                            map[string]int
	faults                                     map[Kind]int
	points                                     map[string]int
	oracles                                    map[string]int
	failed                                     []uint64
	slowest, lastResumed, insertP99            time.Duration
	resumed, resumedLate, paused               int
	begun                                      time.Time
}

func (s *summary) add(ev *Evidence, r *Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again == nil {
		s.again, s.licences, s.faults, s.points, s.oracles = map[string]int{}, map[string]int{}, map[Kind]int{}, map[string]int{}, map[string]int{}
		s.held, s.givenUp = map[string]int{}, map[string]int{}
		s.batches, s.workers = map[int]int{}, map[int]int{}
		s.begun = time.Now().Add(-ev.Took)
	}
	s.runs++
	s.daemons[ev.Plan.Daemons]++
	s.batches[ev.Plan.Batch]++
	s.workers[ev.Plan.Workers]++
	s.committed += r.Committed
	s.accepted += r.Accepted
	s.found += r.Found
	for channel, n := range r.Held {
		s.held[channel] += n
	}
	for channel, n := range r.GivenUp {
		s.givenUp[channel] += n
	}
	s.pruned += 1200 - ev.OldDone
	if ev.Plan.ListLies {
		s.lying++
	}
	s.takeovers += r.Takeovers
	s.resumed += r.Resumed
	s.resumedLate += r.ResumedLate
	s.lastResumed = max(s.lastResumed, r.LastResumed)
	s.paused += r.Paused
	s.insertP99 = max(s.insertP99, r.InsertP99)
	for _, p := range ev.Produced {
		switch p.Fate {
		case RolledBack:
			s.rolled++
		case Unclear:
			s.unclear++
		}
	}
	for k, n := range r.Again {
		s.again[k] += n
	}
	for k, n := range r.Licences {
		s.licences[k] += n
	}
	for k, n := range r.Faults {
		s.faults[k] += n
	}
	for _, p := range r.Points {
		s.points[p]++
	}
	for _, p := range r.Problems {
		s.oracles[p.Oracle]++
	}
	s.problems += len(r.Problems)
	if len(r.Problems) > 0 {
		s.failed = append(s.failed, ev.Plan.Seed)
	}
	s.slowest = max(s.slowest, ev.Quiet)
}

func (s *summary) log(t *testing.T) {
	t.Logf("%d runs, %d events committed, %d accepted, again with licence %v, SMS found %d, held %v, given up %v, %d take-overs, %d leases left by SIGKILL and taken over %s late at most, slowest to be quiet %s, %d problems; %d kinds of failpoints hit",
		s.runs, s.committed, s.accepted, s.licences, s.found, s.held, s.givenUp, s.takeovers, s.resumed, s.lastResumed.Round(time.Millisecond), s.slowest.Round(time.Millisecond), s.problems, len(s.points))
}

// missed are the failpoints that no run came to.
func (s *summary) missed() (names []string) {
	hit := map[string]bool{}
	for p := range s.points {
		name, _, _ := strings.Cut(p, " ")
		hit[name] = true
	}
	for _, f := range failpoints {
		if !hit[f.name] {
			names = append(names, f.name)
		}
	}
	return names
}

// poolerVersion is what PgBouncer calls itself.
func poolerVersion() string {
	path, err := FindPgBouncer()
	if err != nil {
		return "PgBouncer"
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "PgBouncer"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// markdown is the page for docs/evidence.
func (s *summary) markdown(seeds []uint64, events int) string {
	var b strings.Builder
	row := func(name string, value any) { fmt.Fprintf(&b, "| %s | %v |\n", name, value) }
	title := "Runs under faults"
	if *poolerFlag {
		title = "Runs under faults behind PgBouncer"
	}
	fmt.Fprintf(&b, "# %s\n\nWhat `go test ./internal/faultrig` came to, with %d events a run, %s.\n", title, events, evidence.Source())
	if *poolerFlag {
		fmt.Fprintf(&b, "%s, `pool_mode = transaction`, between listeners and database: they hear no notifications, and live by the sweep.\n", poolerVersion())
	}
	b.WriteString("Each seed can be replayed with `-seed`. What is done, and what is checked: [faults.md](../faults.md).\n\n| | |\n|---|---|\n")
	row("seeds", fmt.Sprintf("%d to %d", seeds[0], seeds[len(seeds)-1]))
	if s.runs < len(seeds) {
		row("of these begun in time", s.runs)
	}
	row("runs with 1, 2, 3 listeners", fmt.Sprintf("%d, %d, %d", s.daemons[1], s.daemons[2], s.daemons[3]))
	row("runs with batches of 1, 10, 1000", fmt.Sprintf("%d, %d, %d", s.batches[1], s.batches[10], s.batches[1000]))
	row("runs with 8, 32 workers", fmt.Sprintf("%d, %d", s.workers[8], s.workers[32]))
	row("events committed", s.committed)
	row("events rolled back", s.rolled)
	row("commits without an answer (events)", s.unclear)
	row("accepted by providers", s.accepted)
	row("lost, or wrong in the record (O1, O5)", s.oracles["O1"]+s.oracles["O5"])
	row("phantoms (O2)", s.oracles["O2"])
	row("repetitions without licence, or with another key or other bytes (O3)", s.oracles["O3"])
	row("SMS accepted twice although the list is honest, or anything submitted twice under never_twice or hold (O4)", s.oracles["O4"])
	row("stale writes, and attempts miscounted (O6)", s.oracles["O6"])
	row("runs not quiet in time, and leases not taken over in time (O7)", s.oracles["O7"])
	row("listeners that did not end, or left leases, transactions or files open (O8)", s.oracles["O8"])
	row("secrets, and what is private, in logs or tables (O9)", s.oracles["O9"])
	row("calls within a pause that was asked for, and lines too close together (O10)", s.oracles["O10"])
	row("inserts that failed, runs in which they took long (O11)", s.oracles["O11"])
	row("accepted out of order (O12)", s.oracles["O12"])
	for _, what := range slices.Sorted(maps.Keys(s.again)) {
		row("repetitions with licence: "+what, s.again[what])
	}
	row("runs in which Twilio's list has nothing", s.lying)
	row("SMS whose answer was lost, and which were found", s.found)
	for _, channel := range slices.Sorted(maps.Keys(s.held)) {
		row("held for a person, with licence: "+channel, s.held[channel])
	}
	for _, channel := range slices.Sorted(maps.Keys(s.givenUp)) {
		row("given up under never_twice, with licence: "+channel, s.givenUp[channel])
	}
	row("take-overs", s.takeovers)
	row("leases left by SIGKILL, and taken over", s.resumed)
	row(fmt.Sprintf("of these more than a sweep (%s) after their lease, and the faults since, were over", sweepEvery), s.resumedLate)
	row("the latest of these after its lease, and the faults since, were over", s.lastResumed.Round(time.Millisecond))
	row("old events deleted by the retention, of 1,200 in each run", s.pruned)
	row("pauses that a provider asked for, and that were on record", s.paused)
	row("the longest that one insert of a hundred took in a run", s.insertP99.Round(time.Millisecond))
	row("slowest to be quiet after the last fault", s.slowest.Round(time.Millisecond))
	row("seeds with problems", s.failed)
	row("time", time.Since(s.begun).Round(time.Second))
	b.WriteString("\n| repetitions by what may be the reason | times |\n|---|---|\n")
	for _, what := range slices.Sorted(maps.Keys(s.licences)) {
		row(what, s.licences[what])
	}
	b.WriteString("\n| fault | times |\n|---|---|\n")
	for _, k := range slices.Sorted(maps.Keys(s.faults)) {
		row(string(k), s.faults[k])
	}
	b.WriteString("\n| failpoint | times |\n|---|---|\n")
	for _, k := range slices.Sorted(maps.Keys(s.points)) {
		row(k, s.points[k])
	}
	return b.String()
}
