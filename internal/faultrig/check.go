//go:build unix

package faultrig

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Problem is something that was promised and is not so.
type Problem struct {
	Oracle string    // O1 to O12; see docs/faults.md
	Event  uuid.UUID // zero where it is about the whole run
	Text   string
}

// Report is what Check finds.
type Report struct {
	Problems  []Problem
	Committed int            // events
	Accepted  int            // by providers
	Again     map[string]int // licensed repetitions, by channel
	Licences  map[string]int // the same, by channel and what may be the reason
	Held      map[string]int // deliveries that wait for a person, with licence, by channel
	GivenUp   map[string]int // those that are dead since nobody knows whether they arrived, with licence, by channel
	Found     int            // SMS whose answer was lost, and which Twilio had when it was asked
	Takeovers int
	Resumed   int // leases that were left by a SIGKILL
	// ResumedLate is how many of them were taken over more than a sweep after their lease was over, and the faults since.
	ResumedLate int
	// LastResumed is how long after its lease was over, and the faults since, one of them was taken over, at
	// most.
	LastResumed time.Duration
	Paused      int           // times that a provider asked for a pause, and that is on record
	InsertP99   time.Duration // of inserts that no fault came upon
	InsertMost  time.Duration
	Faults      map[Kind]int
	Points      []string // failpoints that were hit
}

// check is Check at work.
type check struct {
	*Evidence
	*Report
	produced   map[uuid.UUID]Produced
	inDatabase map[uuid.UUID]EventRow
	deliveries map[uuid.UUID][]DeliveryRow // by event
	accepted   map[place][]Line
	mishaps    map[place][]Line
	changes    map[uuid.UUID][]Change // by event
	claimedBy  map[uuid.UUID]string   // who made each claim
	over       time.Time              // the last moment that anything is known of
}

// place is where an event goes: to each channel once, at most.
type place struct {
	event   uuid.UUID
	channel string
}

// Check holds the ledgers against each other.
func Check(ev *Evidence) *Report {
	c := &check{
		Evidence: ev, Report: &Report{Again: map[string]int{}, Licences: map[string]int{}, Held: map[string]int{}, GivenUp: map[string]int{}, Faults: map[Kind]int{}},
		produced: map[uuid.UUID]Produced{}, inDatabase: map[uuid.UUID]EventRow{},
		deliveries: map[uuid.UUID][]DeliveryRow{}, accepted: map[place][]Line{},
		mishaps: map[place][]Line{}, changes: map[uuid.UUID][]Change{}, claimedBy: map[uuid.UUID]string{},
	}
	for _, e := range ev.Events {
		c.inDatabase[e.ID] = e
	}
	for _, p := range ev.Produced {
		c.produced[p.ID] = p
	}
	for _, d := range ev.Deliveries {
		c.deliveries[d.Event] = append(c.deliveries[d.Event], d)
	}
	for _, ch := range ev.Changes {
		c.changes[ch.Event] = append(c.changes[ch.Event], ch)
		if ch.Claim != nil && c.claimedBy[*ch.Claim] == "" && !same(ch.OldClaim, ch.Claim) {
			c.claimedBy[*ch.Claim] = ch.App
		}
		c.over = later(c.over, ch.At)
	}
	for _, l := range ev.Provided {
		event, err := uuid.Parse(l.Event)
		c.over = later(c.over, l.At)
		switch {
		case err != nil:
			c.problem("O2", uuid.Nil, "a provider got something that names no event: %+v", l)
		case l.Fault != "":
			at := place{event, l.Channel}
			c.mishaps[at] = append(c.mishaps[at], l)
		default:
			at := place{event, l.Channel}
			c.accepted[at] = append(c.accepted[at], l)
			c.Report.Accepted++
		}
	}
	for _, f := range ev.Faults {
		c.Report.Faults[f.Kind]++
		if _, at, ok := strings.Cut(f.What, " at "); ok && f.Kind == Failpoint {
			c.Points = append(c.Points, at)
		}
	}
	c.phantoms()
	for _, p := range ev.Produced {
		if c.committed(p) {
			c.Committed++
			c.event(p)
		}
	}
	c.order()
	c.fences()
	c.resumed()
	c.quietly()
	c.heeded()
	c.unharmed()
	c.whole()
	return c.Report
}

func (c *check) problem(oracle string, event uuid.UUID, format string, args ...any) {
	c.Problems = append(c.Problems, Problem{oracle, event, fmt.Sprintf(format, args...)})
}

// committed says whether an event exists. Where the answer to a commit was lost
// the database knows.
func (c *check) committed(p Produced) bool {
	_, there := c.inDatabase[p.ID]
	return p.Fate == Committed || p.Fate == Unclear && there
}

// phantoms is O2: nothing is accepted that was not committed, or not yet.
func (c *check) phantoms() {
	for at, lines := range c.accepted {
		p, known := c.produced[at.event]
		switch {
		case !known:
			c.problem("O2", at.event, "accepted by a provider, and no producer knows it")
		case !c.committed(p):
			c.problem("O2", at.event, "accepted by a provider, and its transaction came to: %s", p.Fate)
		case lines[0].At.Before(p.Sent):
			c.problem("O2", at.event, "accepted by a provider before its commit was sent")
		case !slices.Contains(types[p.Type], at.channel):
			c.problem("O2", at.event, "it is a %s, and %s accepted it", p.Type, at.channel)
		}
	}
	for event := range c.Booked {
		if p, known := c.produced[event]; !known || !c.committed(p) {
			c.problem("O2", event, "its sql step was run, and it was not committed")
		}
	}
}

// event is O1, O3, O4 and O5 about one event that was committed.
func (c *check) event(p Produced) {
	row, there := c.inDatabase[p.ID]
	if !there {
		c.problem("O1", p.ID, "committed, and not in the database any more")
		return
	}
	held := false
	for _, channel := range types[p.Type] {
		var d []DeliveryRow
		for _, one := range c.deliveries[p.ID] {
			if one.Channel == channel {
				d = append(d, one)
			}
		}
		if len(d) != 1 {
			c.problem("O1", p.ID, "it has %d deliveries by %s on record, want 1", len(d), channel)
			continue
		}
		switch {
		case d[0].State == "held":
			held = true
			c.held(p, d[0])
		case d[0].State == "dead" && mayBeGivenUp(p.Type) && strings.HasPrefix(d[0].Error, "unknown_outcome"):
			if c.unanswered(d[0]) {
				c.GivenUp[channel]++
			}
		case d[0].State != "delivered":
			c.problem("O1", p.ID, "its delivery by %s is %s (%s)", channel, d[0].State, d[0].Error)
		case channel == "sql":
			if n := c.Booked[p.ID]; n != 1 {
				c.problem("O3", p.ID, "its sql step is delivered, and was committed %d times", n)
			}
		case len(c.accepted[place{p.ID, channel}]) == 0:
			c.problem("O5", p.ID, "delivered by the record, and no provider accepted it: lost")
		case channel == "sms":
			c.bound(d[0])
		}
		c.repetitions(p, d[0])
		if sentOnce(p.Type) {
			c.once(d[0])
		}
	}
	if row.Processed == held && c.Left == 0 {
		c.problem("O1", p.ID, "held: %v, processed: %v", held, row.Processed)
	}
}

// order is O12: of two events in one line the later one is accepted after the
// earlier one was. Later is what has the greater seq, and was committed by the same
// transaction or by one whose commit was sent when the other's was answered.
func (c *check) order() {
	lines := map[string][]Produced{}
	for _, p := range c.Produced {
		if p.Type == stepTaken && c.committed(p) && len(c.accepted[place{p.ID, "webhook"}]) > 0 {
			lines[p.line()] = append(lines[p.line()], p)
		}
	}
	first := func(p Produced) time.Time { return c.accepted[place{p.ID, "webhook"}][0].At }
	for _, line := range lines {
		for _, a := range line {
			for _, b := range line {
				together := a.Sent.Equal(b.Sent)
				known := a.Fate == Committed && !a.Done.After(b.Sent)
				if c.inDatabase[a.ID].Seq < c.inDatabase[b.ID].Seq && (together || known) && first(b).Before(first(a)) {
					c.problem("O12", b.ID, "accepted before %s, which is ahead of it in %s", a.ID, a.line())
				}
			}
		}
	}
}

// held is O1 about a delivery that waits for a person: it may, where a fault fell on
// its attempt, and what can be asked whether it has it says that it has not.
func (c *check) held(p Produced, d DeliveryRow) {
	switch taken := len(c.accepted[place{d.Event, d.Channel}]) > 0; {
	case !mayBeHeld(p.Type):
		c.problem("O1", d.Event, "%s of %s is held (%s); it may not be", d.Channel, p.Type, d.Error)
	case p.Type == resendMissing && !c.pausedPastLooks(d):
		c.problem("O1", d.Event, "held (%s); it should have been sent again", d.Error)
	case taken && d.Channel == "sms" && !c.Plan.ListLies && !c.pausedPastLooks(d):
		c.problem("O1", d.Event, "held, and Twilio has it, and listed it (%s)", d.Error)
	case c.unanswered(d):
		c.Held[d.Channel]++
	}
}

// pausedPastLooks says whether somebody who held d stood still for longer than it
// is looked for. What he had not written by then leaves when it has been missed
// already, which nobody can keep him from; see "Not promised" in
// docs/guarantees.md.
func (c *check) pausedPastLooks(d DeliveryRow) bool {
	return slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
		return f.To.Sub(f.From) > c.Plan.lookSpan() && (f.Kind == Stop || f.Kind == Failpoint) &&
			c.had(f, d, c.over)
	})
}

// unanswered is O1 about a delivery of which nobody knows whether it arrived: a fault
// fell on its attempt.
func (c *check) unanswered(d DeliveryRow) bool {
	var begun time.Time // the last attempt, whenever it was found out
	for _, ch := range c.changes[d.Event] {
		if ch.Delivery != nil && ch.State == "sending" && (ch.OldState == nil || *ch.OldState != "sending") {
			begun = ch.At
		}
	}
	switch {
	case begun.IsZero():
		c.problem("O1", d.Event, "%s, and it was never announced (%s)", d.State, d.Error)
	case c.licence(d, begun, time.Time{}, c.unsure(d, begun)) == "":
		c.problem("O1", d.Event, "%s, and no fault fell on its attempt (%s)", d.State, d.Error)
	default:
		return true
	}
	return false
}

// unsure says whether a request for d after a moment had an answer of its provider that does not
// say whether it was taken.
func (c *check) unsure(d DeliveryRow, from time.Time) bool {
	return slices.ContainsFunc(c.mishaps[place{d.Event, d.Channel}], func(l Line) bool {
		return l.unclear() && !l.At.Before(from)
	})
}

// whole is O7 and O8: about the run as a whole.
func (c *check) whole() {
	if c.Left > 0 {
		c.problem("O7", uuid.Nil, "%d events are open %s after the last fault", c.Left, c.Quiet.Round(time.Millisecond))
		for _, e := range c.Evidence.Events {
			if !e.Processed && !slices.ContainsFunc(c.deliveries[e.ID], func(d DeliveryRow) bool { return d.State == "held" }) {
				c.problem("O7", e.ID, "it is open still: %s", e.Lease)
			}
		}
	} else if c.QuietLimit > 0 && c.Quiet > c.QuietLimit {
		c.problem("O7", uuid.Nil, "it took %s after the last fault until nothing was left to do; the limit is %s", c.Quiet.Round(time.Millisecond), c.QuietLimit)
	}
	if c.OldHeld != oldHeld {
		c.problem("O1", uuid.Nil, "of %d events that have waited for a person for two months %d are left", oldHeld, c.OldHeld)
	}
	for _, s := range c.Strange {
		c.problem("O5", uuid.Nil, "the clock of a host is on record: %s", s)
	}
	for _, e := range c.Exits {
		c.problem("O8", uuid.Nil, "%s", e)
	}
	for _, s := range c.Idle {
		c.problem("O8", uuid.Nil, "idle in a transaction when all was done: %s", s)
	}
	if c.Notified > 0 {
		c.problem("O8", uuid.Nil, "%g of the queue of notifications is in use when all was done", c.Notified)
	}
	if c.Files > mostFiles {
		c.problem("O8", uuid.Nil, "a listener had %d files open when all was done; the limit is %d", c.Files, mostFiles)
	}
	if c.Leased > 0 {
		c.problem("O8", uuid.Nil, "%d rows are leased although every listener has ended", c.Leased)
	}
}

// later is the later one of two moments.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Explain is the problems as text, with the histories of the first events that
// they are about.
func (r *Report) Explain(ev *Evidence) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems\n%s", len(r.Problems), ev.Plan)
	if n, longest := ev.slow(); n > 0 {
		fmt.Fprintf(&b, "\nthe machine was too slow %d times, for up to %s: what has to do with time may be its fault", n, longest.Round(time.Millisecond))
	}
	told := map[uuid.UUID]bool{}
	for i, p := range r.Problems {
		if i == 20 {
			fmt.Fprintf(&b, "\n… and %d more", len(r.Problems)-i)
			break
		}
		fmt.Fprintf(&b, "\n%s: event %s: %s", p.Oracle, p.Event, p.Text)
		if p.Event != uuid.Nil && !told[p.Event] && len(told) < 5 {
			told[p.Event] = true
			b.WriteString("\n  " + ev.History(p.Event))
		}
	}
	return b.String()
}
