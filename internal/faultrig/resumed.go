//go:build unix

package faultrig

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// sweepEvery is how often a listener of a run looks for leases that ran out, at least; see
// run.environment.
const sweepEvery = 200 * time.Millisecond

// resumeSlack is how much later than it might a lease that was left may be taken over: the machine does
// other things, too, and the next process has to start. Where no run has a limit for how soon
// it is quiet the machine may be a slow one.
func (ev *Evidence) resumeSlack() time.Duration {
	if ev.QuietLimit > 0 {
		return 3 * time.Second
	}
	return 10 * time.Second
}

// serverBack is how soon after a restart of the server listeners work again: see "How soon" in
// docs/guarantees.md. One that starts while the server is away looks for it less and less often.
const serverBack = 5 * time.Second

// resumed is O7 about each process that was killed: what it had leased is taken over as soon as that
// lease is over and somebody sweeps. Whoever could do so may be kept from it by a fault, and
// has a sweep and the slack of the machine when that is over.
func (c *check) resumed() {
	type row struct{ event, delivery uuid.UUID } // the latter is zero for the event itself
	rows := map[row][]Change{}
	for _, ch := range c.Evidence.Changes {
		at := row{event: ch.Event}
		if ch.Delivery != nil {
			at.delivery = *ch.Delivery
		}
		rows[at] = append(rows[at], ch)
	}
	for _, f := range c.Evidence.Faults {
		process, killed := f.killed()
		if !killed {
			continue
		}
		for at, changes := range rows {
			until, next := c.leftBy(process, f.From, changes)
			if until.IsZero() {
				continue
			}
			if next.IsZero() {
				next = c.over
			}
			due := c.ableFrom(later(until, f.To), next)
			late := next.Sub(due)
			c.Resumed++
			c.LastResumed = max(c.LastResumed, late)
			if late > sweepEvery {
				c.ResumedLate++
			}
			if late > sweepEvery+c.resumeSlack() {
				c.problem("O7", at.event, "%s was killed and its lease was over at %s, and nobody took it over until %s after that, or after the last fault since",
					process, until.UTC().Format("15:04:05.000"), late.Round(time.Millisecond))
			}
		}
	}
}

// leftBy returns until when a row is leased that a process had when it was killed, by all
// changes of the row, and when somebody else has changed it; zero where it had no lease,
// and where nobody has.
func (c *check) leftBy(process string, at time.Time, changes []Change) (until, next time.Time) {
	for _, ch := range changes {
		if ch.At.After(at) && ch.App != process {
			if until.IsZero() || ch.App != rigName {
				return until, ch.At
			}
			continue
		}
		until = time.Time{}
		if ch.leases() && c.claimedBy[*ch.Claim] == process {
			until = *ch.Until
		}
	}
	return until, time.Time{}
}

// ableFrom returns from when on listeners can do what is due at one moment, for all that the
// faults say which began before it was done.
func (c *check) ableFrom(at, done time.Time) time.Time {
	all := slices.SortedFunc(slices.Values(c.Evidence.Faults), func(a, b Fault) int { return a.From.Compare(b.From) })
	for _, f := range all {
		if f.Kind == SlowProvider || f.Channel == models { // which keep nobody from that
			continue
		}
		if f.From.Before(done) && !f.From.After(at.Add(sweepEvery+c.resumeSlack())) {
			over := f.To
			if f.Kind == RestartFast || f.Kind == RestartCrash {
				over = over.Add(max(serverBack-c.resumeSlack(), 0))
			}
			at = later(at, over)
		}
	}
	return at
}

// killed returns the process that a SIGKILL came upon.
func (f Fault) killed() (process string, ok bool) {
	process, rest, _ := strings.Cut(f.What, " ")
	return process, f.Kind == Kill && rest == "" || f.Kind == Failpoint && strings.HasSuffix(rest, " kill")
}
