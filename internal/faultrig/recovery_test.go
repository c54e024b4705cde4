//go:build unix

package faultrig

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/evidence"
)

var (
	killsFlag     = flag.Int("kills", 0, "SIGKILLs of TestRecovery; 0 is 2")
	restartsFlag  = flag.Int("restarts", 0, "restarts of the server of TestRecovery; 0 is 2")
	halfOpensFlag = flag.Int("halfopens", 0, "half-open LISTEN connections of TestRecovery; 0 is 1")
	sigtermsFlag  = flag.Int("sigterms", 0, "SIGTERMs of TestRecovery; 0 is 6")
	lanesFlag     = flag.Int("lanes", 4, "how many of each go on side by side")
	figuresFlag   = flag.String("figures", "", "a file that gets the figures of TestRecovery, as Markdown; with it the limits hold without an allowance for a machine that does other things too")
)

// What listeners of TestRecovery run with. A lease that ran out is looked for at
// each sweep, or each sixth of a lease where that is sooner: here they are the same.
const (
	recoveryLease = 3 * time.Second
	recoverySweep = 500 * time.Millisecond
)

// The limits, and what is added to them where nobody writes figures.
const (
	killLimit     = recoveryLease + recoverySweep
	restartLimit  = 5 * time.Second
	halfOpenLimit = 10 * time.Second
	stopLimit     = 45 * time.Second // OUTBOX_SHUTDOWN_GRACE and 5 s; see docs/systemd.md
	allowance     = 5 * time.Second
)

// figure is what one kind of fault came to.
type figure struct {
	name  string
	limit time.Duration

	mu    sync.Mutex
	took  []time.Duration
	wrong []string // other than that it took too long
}

func (f *figure) note(took time.Duration, wrong ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.took = append(f.took, took)
	f.wrong = append(f.wrong, wrong...)
}

// line is a row of the page.
func (f *figure) line() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.took)
	if len(f.took) == 0 {
		return fmt.Sprintf("| %s | 0 | | | | |", f.name)
	}
	past := 0
	for _, d := range f.took {
		if d > f.limit {
			past++
		}
	}
	return fmt.Sprintf("| %s | %d | %s | %s | %s | %d |", f.name, len(f.took), f.took[len(f.took)/2].Round(time.Millisecond),
		f.took[len(f.took)-1].Round(time.Millisecond), f.limit, past+len(f.wrong))
}

// hold fails the test by what is past the limit, or wrong.
func (f *figure) hold(t *testing.T) {
	t.Helper()
	limit := f.limit
	if *figuresFlag == "" {
		limit += allowance
	}
	for _, d := range f.took {
		if d > limit {
			t.Errorf("%s: %s, the limit is %s", f.name, d, limit)
		}
	}
	for _, w := range f.wrong {
		t.Errorf("%s: %s", f.name, w)
	}
}

// spread has do called n times, some side by side, each with a lane that is made
// for those that come one after the other.
func spread(t *testing.T, n int, newLane func(*testing.T) *lane, do func(*testing.T, *lane)) {
	lanes := min(n, *lanesFlag)
	for i := range lanes {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			l := newLane(t)
			for k := i; k < n && !t.Failed(); k += lanes {
				do(t, l)
			}
		})
	}
}

// orElse is n, or where that is not said less.
func orElse(n, less int) int {
	if n > 0 {
		return n
	}
	return less
}

// TestRecovery: how soon listeners go on after the faults that operators ask about.
// Without flags it is a few of each.
func TestRecovery(t *testing.T) {
	t.Parallel()
	all := newWorlds(t)
	shared := all.get(t)
	t.Cleanup(func() { all.put(shared) })
	begun := time.Now()
	in := func(c laneConfig) func(*testing.T) *lane {
		return func(t *testing.T) *lane { return newLane(t, shared, c) }
	}
	usual := laneConfig{daemons: 1, lease: recoveryLease, poll: recoverySweep, grace: 40 * time.Second}
	two := usual
	two.daemons = 2

	kills := &figure{name: fmt.Sprintf("SIGKILL while it sends, until it is sent again (lease %s, sweep %s)", recoveryLease, recoverySweep), limit: killLimit}
	restarts := &figure{name: "restart of the server, from when it takes connections to the first delivery", limit: restartLimit}
	halfOpens := &figure{name: "half-open LISTEN, until it is noticed", limit: halfOpenLimit}
	stops := &figure{name: "SIGTERM under load, until it has ended with nothing leased", limit: stopLimit}
	figures := []*figure{kills, restarts, halfOpens, stops}

	own := func(t *testing.T) *lane {
		w, err := NewWorld(t.Context(), all.program) // each restarts a server of its own
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		return newLane(t, w, usual)
	}
	// One after the other where it is measured, and else at once.
	group := func(t *testing.T, name string, f *figure, n int, newLane func(*testing.T) *lane, do func(*testing.T, *lane)) {
		t.Run(name, func(t *testing.T) {
			if *figuresFlag == "" {
				t.Parallel()
			}
			t.Cleanup(func() { f.hold(t) })
			spread(t, n, newLane, do)
		})
	}
	t.Run("after", func(t *testing.T) {
		group(t, "kill", kills, orElse(*killsFlag, 2), in(two), func(t *testing.T, l *lane) { kills.note(l.kill(t)) })
		group(t, "restart", restarts, orElse(*restartsFlag, 2), own, func(t *testing.T, l *lane) { restarts.note(l.restart(t)) })
		group(t, "half-open", halfOpens, orElse(*halfOpensFlag, 1), in(usual), func(t *testing.T, l *lane) { halfOpens.note(l.halfOpen(t)) })
		group(t, "stop", stops, orElse(*sigtermsFlag, 6), in(usual), func(t *testing.T, l *lane) {
			took, wrong := l.stop(t)
			stops.note(took, wrong...)
		})
	})
	for _, f := range figures {
		t.Log(f.line())
	}
	if *figuresFlag != "" {
		if err := os.WriteFile(*figuresFlag, []byte(recoveryPage(figures, begun)), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// kill kills a listener while it sends, and returns how long it took until the
// same was sent again.
func (l *lane) kill(t *testing.T) time.Duration {
	arrived := l.hook.expect(true)
	id, err := l.insert(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	l.await(t, arrived, "webhook")
	var app string
	if err := l.pool.QueryRow(t.Context(), `select app from faultrig.changes where event = $1 and claim is not null order by n limit 1`, id).Scan(&app); err != nil {
		t.Fatal(err)
	}
	sleep(t.Context(), rand.N(recoveryLease)) // at any moment of its lease, its event parked or not
	again := l.hook.expect(false)
	for _, d := range l.daemons {
		if strings.HasPrefix(app, fmt.Sprintf("d%d.", d.number)) {
			killed := time.Now()
			go d.kill(t.Context(), 0, "")
			took := l.await(t, again, "webhook").Sub(killed)
			if err := l.processed(t.Context()); err != nil {
				t.Error(err)
			}
			l.ready(t)
			return took
		}
	}
	t.Fatalf("%q is nobody's", app)
	return 0
}

// ready waits until every listener has a LISTEN connection.
func (l *lane) ready(t *testing.T) {
	for deadline := time.Now().Add(patience); ; sleep(t.Context(), 10*time.Millisecond) {
		var n int
		err := l.pool.QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = $1 and application_name = 'outbox-listener listen'`, l.database).Scan(&n)
		if err == nil && n == len(l.daemons) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d listen: %v", n, len(l.daemons), err)
		}
	}
}

// restart has the server down for a while, and returns how long it took from when it
// took connections to the first delivery.
func (l *lane) restart(t *testing.T) time.Duration {
	l.ready(t)
	mode := devpg.Fast
	if rand.IntN(2) == 0 {
		mode = devpg.Immediate
	}
	if err := l.world.server.Halt(t.Context(), mode); err != nil {
		t.Fatal(err)
	}
	sleep(t.Context(), rand.N(4*time.Second)) // so that it waits for longer and longer
	arrived := l.hook.expect(false)
	if err := l.world.server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	l.pool.Reset()
	if _, err := l.insert(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	took := l.await(t, arrived, "webhook").Sub(up)
	if err := l.processed(t.Context()); err != nil {
		t.Error(err)
	}
	return took
}

// halfOpen has the LISTEN connection go nowhere, and returns how long it took until
// the listener said so.
func (l *lane) halfOpen(t *testing.T) time.Duration {
	l.ready(t)
	sleep(t.Context(), 1500*time.Millisecond+rand.N(4*time.Second)) // at any moment between two heartbeats
	noticed := l.lines.next(`"msg":"LISTEN connection is silent; cutting it"`)
	l.listen.Swallow(true)
	cut := time.Now()
	took := l.await(t, noticed, "word of a LISTEN connection that is silent").Sub(cut)
	heard := l.lines.next(`"msg":"listening"`)
	l.listen.Swallow(false)
	l.await(t, heard, "listener that listens again")
	return took
}

// stop ends a listener that has much to do by SIGTERM, and returns how long that
// took and what was wrong about it.
func (l *lane) stop(t *testing.T) (took time.Duration, wrong []string) {
	d := l.daemons[0]
	d.next("")
	l.hook.mu.Lock()
	l.hook.took = rand.N(20 * time.Millisecond)
	l.hook.mu.Unlock()
	arrived := l.hook.expect(false)
	if err := l.insertWaiting(t.Context(), 150); err != nil {
		t.Fatal(err)
	}
	if _, err := l.insert(t.Context(), 150); err != nil {
		t.Fatal(err)
	}
	l.await(t, arrived, "webhook")
	sleep(t.Context(), rand.N(100*time.Millisecond))
	before := len(d.crashes)
	name, _, from := d.terminate()
	took = time.Since(from)
	d.mu.Lock()
	wrong = slices.Clone(d.crashes[before:])
	d.mu.Unlock()
	n, err := l.leasedBy(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		wrong = append(wrong, fmt.Sprintf("%s left %d rows leased", name, n))
	}
	return took, wrong
}

// recoveryPage is the page for docs/evidence.
func recoveryPage(figures []*figure, begun time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Recovery\n\nWhat `go test ./internal/faultrig` came to in %s, %s.\n", time.Since(begun).Round(time.Second), evidence.Source())
	b.WriteString("Real processes, a Postgres with `fsync` on, and a receiver of webhooks, all on one machine. What is done: [faults.md](../faults.md#recovery).\n\n")
	b.WriteString("| | times | median | longest | limit | past it, or wrong |\n|---|---|---|---|---|---|\n")
	for _, f := range figures {
		b.WriteString(f.line() + "\n")
	}
	return b.String()
}

// TestFigure: what is past its limit is counted and fails, and so is what is wrong.
func TestFigure(t *testing.T) {
	f := &figure{name: "x", limit: time.Second}
	for _, d := range []time.Duration{3, 1, 2, 0} {
		f.note(d * 500 * time.Millisecond)
	}
	f.note(0, errors.New("left").Error())
	if got, want := f.line(), "| x | 5 | 500ms | 1.5s | 1s | 2 |"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
