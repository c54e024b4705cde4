//go:build unix

package faultrig

import (
	"slices"
	"strings"

	"github.com/google/uuid"
)

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

// unclear says whether a request may have been taken, by its answer: a 503 says nothing, but where it
// asks to come again. A 451 says that it was not.
func (l Line) unclear() bool {
	return l.Fault != string(throttled) && l.Fault != string(closed) && (l.Fault != string(broken) || l.Channel != "email")
}
