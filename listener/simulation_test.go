package listener

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/evidence"
)

var (
	simulations     = flag.Int("simulations", 1<<30, "how many worlds TestSimulation plays at most")
	simulationsFor  = flag.Duration("simulations-for", 10*time.Second, "no world begins after this")
	simulationSeed  = flag.Uint64("simulation", 0, "play the world of this seed alone")
	simulationsPage = flag.String("simulations-page", "", "write what was played to this file")
	firstSeed       = flag.Uint64("simulations-from", 1, "the first seed")
)

// TestSimulation plays whole listeners, one to three at a time, in worlds of their own:
// tables in memory, a clock that jumps from one thing to the next, and everything that may
// go wrong at moments that a seed chooses. Transactions fail before or after their commit and take
// seconds, the server crashes and forgets what was not on disk, processes are killed or
// stand still, providers answer late, wrong or not at all. In the end nothing is lost, and
// nothing was sent that should not have been.
//
// The seed says what happens when. Which goroutine goes first is the scheduler's, so that the
// same seed may go another way the next time; what failed is printed as it went.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, last := *firstSeed, *firstSeed+uint64(*simulations)-1
	if *simulationSeed != 0 {
		first, last = *simulationSeed, *simulationSeed
	}
	begun, sum := time.Now(), simSum{}
	for seed := first; seed <= last && time.Since(begun) < *simulationsFor && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { play1(t, seed, &sum) })
	}
	t.Logf("%d worlds of %s in all, %d events, %d attempts, %d transactions, %d kills, in %s",
		sum.worlds, sum.lasted.Round(time.Minute), sum.events, sum.attempts, sum.ops, sum.kills, time.Since(begun).Round(time.Second))
	if *simulationsPage != "" && !t.Failed() {
		sum.write(t, *simulationsPage, first)
	}
	if !t.Failed() && sum.worlds > 20 && (sum.kills == 0 || sum.stops == 0 || sum.crashes == 0 || sum.twice == 0 || sum.meddled == 0) {
		t.Errorf("some of it never happens: %+v", sum)
	}
}

// simSum is what happened, of many worlds.
type simSum struct {
	worlds, events, attempts, ops, kills, stops, crashes, twice, meddled, poisoned int
	lasted                                                                         time.Duration
}

func (s simSum) write(t *testing.T, path string, first uint64) {
	t.Helper()
	page := fmt.Sprintf("# Simulated worlds\n\nWritten by `just simulate`, %s.\nSeeds %d to %d, each with one to three listeners at a time, for %s of their time in all.\n"+
		"Nothing was lost, and nothing sent that should not have been.\n\n| | |\n|---|---:|\n", evidence.Source(), first, first+uint64(s.worlds)-1, s.lasted.Round(time.Hour))
	for _, line := range []struct {
		what string
		n    int
	}{
		{"events", s.events}, {"attempts", s.attempts}, {"transactions", s.ops}, {"processes killed", s.kills}, {"processes that stood still", s.stops},
		{"crashes of the server", s.crashes}, {"deliveries that arrived twice, as their channels allow", s.twice}, {"deliveries that a person held, released, canceled or had sent again", s.meddled},
		{"events condemned since their listeners were killed at the wrong moments", s.poisoned},
	} {
		page += fmt.Sprintf("| %s | %d |\n", line.what, line.n)
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Error(err)
	}
}

// play1 is one world, from its beginning until all is quiet.
func play1(t *testing.T, seed uint64, sum *simSum) {
	w, r := newSimWorld(seed), rand.New(rand.NewPCG(seed, 5))
	people := r.IntN(2) == 0
	crashes := -1
	if r.IntN(2) == 0 {
		crashes = DefaultMaxCrashes
	}
	alive := []*simProc{w.spawn(r, crashes)}
	for range r.IntN(3) {
		alive = append(alive, w.spawn(r, crashes))
	}
	for range 20 + r.IntN(60) {
		time.Sleep(time.Duration(r.Int64N(int64(4 * time.Second))))
		if people {
			w.meddle()
		}
		switch what := r.Float64(); {
		case what < 0.5 || w.trouble == 0:
			open := time.Duration(r.Int64N(int64(100 * time.Millisecond)))
			if r.IntN(10) == 0 {
				open = time.Duration(r.Int64N(int64(time.Minute)))
			}
			go w.insert(1+r.IntN(12), open, r.IntN(6) > 0)
		case what < 0.65:
			i := r.IntN(len(alive))
			alive[i].kill()
			sum.kills++
			alive[i] = w.spawn(r, crashes)
		case what < 0.75: // SIGTERM
			i := r.IntN(len(alive))
			alive[i].cancel()
			alive[i] = w.spawn(r, crashes)
		case what < 0.9:
			alive[r.IntN(len(alive))].stop(time.Duration(r.Int64N(int64(time.Minute))))
			sum.stops++
		default:
			w.db.crash(time.Duration(r.Int64N(int64(15 * time.Second))))
			sum.crashes++
		}
	}
	// Then all is well, and what is left is done.
	time.Sleep(time.Minute)
	w.db.mu.Lock()
	w.db.trouble = 0
	w.db.mu.Unlock()
	for range 200 {
		time.Sleep(time.Minute)
		if w.decide(); w.quiet() {
			break
		}
	}
	for _, p := range alive {
		p.cancel()
	}
	for _, p := range w.procs {
		<-p.done
	}
	for !w.said() {
		time.Sleep(time.Second)
	}
	w.judge()
	sum.worlds++
	sum.lasted += time.Since(w.began)
	sum.events += len(w.commits)
	sum.attempts += w.attempts
	sum.ops += w.db.ops
	sum.poisoned += w.poisoned
	sum.meddled += w.meddled
	for _, row := range w.db.ref.rows {
		if len(w.taken[row.id]) > 1 {
			sum.twice++
		}
	}
	if len(w.faults) > 0 {
		var told strings.Builder
		for _, row := range w.db.ref.rows {
			if row.event == w.blamed {
				fmt.Fprintf(&told, "%s is %s after %d attempts: %s\n", row.step, row.state, row.attempts, row.lastError)
			}
		}
		t.Errorf("-simulation %d, trouble %.2f:\n%s\nwhat came of the first of them:\n%s\n%s", seed, w.trouble,
			strings.Join(w.faults[:min(len(w.faults), 10)], "\n"), strings.Join(w.history[w.blamed], "\n"), &told)
	}
}

// quiet reports whether nothing is left to do.
func (w *simWorld) quiet() bool {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	for _, e := range w.db.ref.events {
		if e.hidden || !e.processed && !e.lease.Equal(forever) {
			return false
		}
	}
	for _, row := range w.db.ref.rows {
		if !row.state.Terminal() || row.line != "" {
			return false
		}
	}
	return true
}
