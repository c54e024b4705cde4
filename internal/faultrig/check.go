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

// repetitions is O3 and O4 about a delivery.
func (c *check) repetitions(p Produced, d DeliveryRow) {
	lines := c.accepted[place{d.Event, d.Channel}]
	for i, l := range lines {
		if d.Channel != "sms" && d.Channel != "http" && !strings.HasPrefix(l.ID, d.ID.String()) {
			c.problem("O3", d.Event, "accepted under the key %s; that of the delivery is %s", l.ID, d.ID)
		}
		if l.Sum != lines[0].Sum {
			c.problem("O3", d.Event, "acceptance %d by %s has other bytes than the first", i+1, d.Channel)
		}
		if i == len(lines)-1 || d.Channel != "sms" && sentOnce(p.Type) { // see once
			break
		}
		from := l.At
		last, spoiled := c.spoiled(l)
		if spoiled { // the request was there before that was on disk
			from = last.At
		}
		why := c.licence(d, from, lines[i+1].At, spoiled)
		switch {
		case d.Channel == "sms" && p.Type == resendMissing && c.Plan.ListLies && why != "":
			c.again("sms, since the list lied", why)
		case d.Channel == "sms" && p.Type == resendMissing && c.pausedPastLooks(d):
			c.again("sms, after a pause longer than the looks", latecomer)
		case d.Channel == "sms":
			c.problem("O4", d.Event, "an SMS was accepted %d times", len(lines))
		case why == "":
			c.problem("O3", d.Event, "sent again by %s after acceptance %d, and no fault fell between that and its record", d.Channel, i+1)
		default:
			c.again(d.Channel, why)
		}
	}
}

// again counts a repetition that has a licence.
func (c *check) again(what string, why Kind) {
	c.Again[what]++
	c.Licences[what+": "+string(why)]++
}

// spoiled returns the mishap of a provider with a request that it took, where it did not say so.
// That stands right before it in its ledger.
func (c *check) spoiled(taken Line) (last Line, ok bool) {
	event, _ := uuid.Parse(taken.Event) // it was one before
	at := place{event, taken.Channel}
	for _, l := range slices.Concat(c.mishaps[at], c.accepted[at]) {
		if l.At.Before(taken.At) && l.At.After(last.At) {
			last = l
		}
	}
	return last, mishap(last.Fault).takes()
}

// bound is O5 about an SMS that is delivered: what it is at Twilio by the record is
// what Twilio took for its event.
func (c *check) bound(d DeliveryRow) {
	lines := c.accepted[place{d.Event, d.Channel}]
	if !slices.ContainsFunc(lines, func(l Line) bool { return l.ID == d.ProviderID }) {
		c.problem("O5", d.Event, "its SMS is %q by the record, and Twilio took %s for it", d.ProviderID, lines[0].ID)
	}
	if slices.ContainsFunc(c.changes[d.Event], func(ch Change) bool { return ch.Delivery != nil && ch.State == "uncertain" }) {
		c.Found++
	}
}

// once is O4 about a delivery that must not be sent twice: after a request that may
// have been taken there is none.
func (c *check) once(d DeliveryRow) {
	at := place{d.Event, d.Channel}
	lines := slices.Concat(c.accepted[at], c.mishaps[at])
	slices.SortStableFunc(lines, func(a, b Line) int { return a.At.Compare(b.At) })
	var first Line // that may have been taken
	for _, l := range lines {
		switch {
		case l.Fault == "" && mishap(first.Fault).takes():
			first = l // the same request: it had a mishap, and was taken
		case !first.At.IsZero():
			c.problem("O4", d.Event, "never twice, and there was a request after one that may have been taken")
			return
		case l.unclear():
			first = l
		}
	}
}

// unclear says whether a request may have been taken, by its answer. A 503 to one that must not be
// made twice says that it was not; Twilio's says nothing.
func (l Line) unclear() bool {
	return l.Fault != string(throttled) && (l.Fault != string(broken) || l.Channel == "sms")
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

// terminal states are never left.
var terminal = map[string]bool{"delivered": true, "dead": true, "expired": true, "canceled": true, "skipped": true, "processed": true}

// fences is O6: what is written under a claim is written by its holder, a claim
// passes to another only when its lease has run out, attempts are counted one by
// one, and what is over stays over.
func (c *check) fences() {
	holder := map[uuid.UUID]string{} // of each claim: who made it
	tries := map[uuid.UUID]int{}
	for _, ch := range c.Evidence.Changes {
		if ch.Tries != nil {
			d := *ch.Delivery
			before := 0
			if ch.OldAttempts != nil {
				before = *ch.OldAttempts
			}
			// What was announced and did not leave is not an attempt: it
			// stands as it did before.
			unbegun := *ch.Tries == before-1 && *ch.OldState == "sending" && (ch.State == "ready" || ch.State == "sending" || ch.State == "uncertain")
			if (*ch.Tries < before || *ch.Tries > before+1) && !unbegun {
				c.problem("O6", ch.Event, "its attempts went from %d to %d", before, *ch.Tries)
			}
			tries[d] = *ch.Tries
		}
		if ch.OldState != nil && terminal[*ch.OldState] && ch.State != *ch.OldState {
			c.problem("O6", ch.Event, "it was %s and became %s", *ch.OldState, ch.State)
		}
		if ch.App == rigName {
			continue
		}
		owner := ""
		if ch.OldClaim != nil {
			owner = holder[*ch.OldClaim]
		}
		kept := c.keptBy(owner, ch.At) && (ch.Claim == nil || ch.Claim.Version() == 5 || same(ch.OldClaim, ch.Claim))
		switch {
		case ch.OldState == nil: // a new delivery, under the claim of its event
			if ch.Claim != nil && holder[*ch.Claim] != ch.App && !c.keptBy(holder[*ch.Claim], ch.At) {
				c.problem("O6", ch.Event, "%s wrote a delivery under the claim %s of %q", ch.App, short(ch.Claim), holder[*ch.Claim])
			}
		case same(ch.OldClaim, ch.Claim):
			// Whoever records the last delivery of a parked event settles
			// it, and makes due what waited for that.
			settled := ch.Delivery == nil && *ch.OldState == "parked" ||
				ch.Delivery != nil && *ch.OldState == "ready" && ch.State == "ready" && ch.OldUntil == nil
			if ch.OldClaim != nil && owner != ch.App && !settled && !kept && !ch.hastened() {
				c.problem("O6", ch.Event, "%s wrote under the claim %s of %q: %s", ch.App, short(ch.OldClaim), owner, ch)
			}
		case ch.OldClaim != nil && owner != ch.App:
			c.Takeovers++
			if ch.OldUntil != nil && ch.OldUntil.After(ch.At) && !kept {
				c.problem("O6", ch.Event, "%s took the claim %s from %q before its lease ran out: %s", ch.App, short(ch.OldClaim), owner, ch)
			}
		}
		if ch.Claim != nil && holder[*ch.Claim] == "" {
			holder[*ch.Claim] = ch.App
			if kept { // the record's own claim, under which it may be repeated
				holder[*ch.Claim] = owner
			}
		}
	}
	for _, a := range c.Attempts {
		if a.Attempt < 1 || a.Attempt > tries[a.Delivery] {
			c.problem("O6", c.eventOf(a.Delivery), "attempt %d is on record, of %d", a.Attempt, tries[a.Delivery])
		}
	}
}

// hastened says whether a change only made due earlier what waits and is nobody's: the
// claim is that of a record. Whoever finds out that a destination answers again does that for
// all that waits for it.
func (c Change) hastened() bool {
	return c.Delivery != nil && same(c.OldClaim, c.Claim) && c.Claim != nil && c.Claim.Version() == 5 &&
		*c.OldState == c.State && *c.OldAttempts == *c.Tries && c.OldUntil != nil && c.Until != nil && c.Until.Before(*c.OldUntil)
}

// keptBy says whether a process had ended by SIGTERM before a moment, so that what it
// could not record may be recorded in its name. Any listener may: all of them have
// the same state directory.
func (c *check) keptBy(app string, at time.Time) bool {
	return slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
		return f.Kind == Terminate && f.What == app && f.To.Before(at.Add(c.Plan.slack()))
	})
}

func (c *check) eventOf(delivery uuid.UUID) uuid.UUID {
	for _, d := range c.Evidence.Deliveries {
		if d.ID == delivery {
			return d.Event
		}
	}
	return uuid.Nil
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
