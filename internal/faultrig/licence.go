//go:build unix

package faultrig

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// nearby is by how much what belongs together may be noted apart: that a process was at a
// failpoint is read from what it says, and a request may have passed its proxy when that was
// cut, and not be read yet.
const nearby = 200 * time.Millisecond

// grace is OUTBOX_SHUTDOWN_GRACE of the listeners: how long they have to finish what is being sent.
const grace = 3 * time.Second

// The licences that are no Kind of fault.
const (
	hungUp    Kind = "the provider hung up"
	lostClaim Kind = "a claim lost with the server"
	latecomer Kind = "who had it before stood still" // and sent it when that was over
)

// outcome is what became of the knowledge of what one request came to: from when there is
// something to know until it was on record, or somebody had the delivery anew.
type outcome struct {
	from, to time.Time
	holders  map[string]bool // the processes that had the delivery at from; two where one had its event and another the delivery
	leased   bool            // one of them had a lease then, by the record
	state    string          // as which it is on record; "" where none of them has recorded it
}

// held is who has an event or a delivery.
type held struct {
	by    string
	until time.Time
}

// outcomeOf returns what became of a request for d that may have been taken from one
// moment on. The next request was taken at another one, zero where there was none.
func (c *check) outcomeOf(d DeliveryRow, from, next time.Time) outcome {
	if next.IsZero() {
		next = c.over
	}
	o := outcome{from: from, to: next, holders: map[string]bool{}}
	var event, delivery held
	known := map[uuid.UUID]bool{}
	for _, ch := range c.changes[d.Event] {
		switch {
		case ch.Delivery != nil && *ch.Delivery != d.ID:
			continue
		case ch.At.After(next):
			return o
		case !ch.At.After(from):
			now := held{}
			if ch.leases() {
				known[*ch.Claim] = true
				now = held{c.claimedBy[*ch.Claim], *ch.Until}
			}
			switch {
			case ch.Delivery != nil:
				delivery = now
			case ch.State != "parked" || delivery.by != "":
				event = now
			default: // its deliveries' rows come with that, under the same claim: whoever has it has them
			}
			o.holders, o.leased = map[string]bool{}, false
			for _, h := range []held{event, delivery} {
				if h.by != "" {
					o.holders[h.by] = true
					o.leased = o.leased || h.until.After(from)
				}
			}
		case ch.ended():
			o.to = ch.At
			for by := range o.holders {
				if by == ch.App || c.keptBy(by, ch.At) {
					o.state = ch.State
				}
			}
			return o
		case ch.leases() && !known[*ch.Claim]:
			o.to = ch.At
			return o
		}
	}
	return o
}

// leases says whether a change leaves an event or a delivery under the lease of a listener,
// whose claims are of version 4.
func (c Change) leases() bool {
	return c.Claim != nil && c.Claim.Version() == 4 && c.Until != nil && !terminal[c.State]
}

// ended says whether a change is the record of an attempt.
func (c Change) ended() bool {
	if c.Delivery == nil {
		return false
	}
	switch c.State {
	case "delivered", "uncertain", "retry", "held", "dead":
		return c.OldState == nil || *c.OldState != c.State || c.Tries != nil && c.OldAttempts != nil && *c.Tries != *c.OldAttempts
	}
	return false
}

// likely are the faults that an outcome can be lost by, the most likely first.
var likely = [][]Kind{
	{LimitProvider, CutProvider, SwallowProvider},
	{Failpoint, Kill, Stop},
	{Terminate, TerminateAway, SwallowDatabase, LimitDatabase, CutDatabase, RestartCrash, RestartFast},
	{Slow},
}

// licence returns what may be why nobody knew what a request for d came to, that may have been
// taken from one moment on; "" for nothing. The next request was taken at another one, zero
// where there was none. spoiled says that its provider did not answer it as it should have.
func (c *check) licence(d DeliveryRow, from, next time.Time, spoiled bool) Kind {
	o := c.outcomeOf(d, from, next)
	switch {
	case o.state == "delivered": // it was known
	case o.state != "" && spoiled:
		return hungUp
	default:
		for _, kinds := range likely {
			for _, f := range c.Evidence.Faults {
				if slices.Contains(kinds, f.Kind) && c.loses(f, o, d) {
					return f.Kind
				}
			}
		}
	}
	for _, f := range c.Evidence.Faults {
		switch {
		case f.Kind == RestartCrash && !o.leased && f.From.Before(o.to) && f.To.After(from.Add(-c.Plan.Lease)):
			return lostClaim // claims commit asynchronously
		case !next.IsZero() && f.still() && f.during(from.Add(-c.Plan.slack()), next) && c.overtaken(f, d):
			return latecomer // its request was under way, and is one of the two
		}
	}
	return ""
}

// loses says whether an outcome about d can be lost by a fault.
func (c *check) loses(f Fault, o outcome, d DeliveryRow) bool {
	recorded := o.state != "" // by the process that sent it: it lives, and has heard no clear answer
	switch died := f.Kind == Kill || f.Kind == Failpoint && strings.HasSuffix(f.What, " kill"); {
	case died:
		// What it sent, or asked the database for, may come to pass when it is gone.
		return !recorded && f.upon(o.holders) && !f.From.After(o.to.Add(nearby))
	case f.Kind == LimitProvider, f.Kind == CutProvider, f.Kind == SwallowProvider:
		return recorded && f.Channel == d.Channel && f.during(o.from.Add(-nearby), o.to)
	case f.Kind == Failpoint: // a panic may cost one attempt alone
		return f.upon(o.holders) && f.during(o.from.Add(-nearby), o.to.Add(nearby))
	case f.Kind == Stop && !o.leased: // it went on when its lease was over, and what was under way left then
		return f.upon(o.holders) && f.during(o.from.Add(-c.Plan.slack()), o.to)
	case f.Kind == Stop: // it may last longer than one waits for a provider
		return f.upon(o.holders) && f.during(o.from, o.to)
	case f.Kind == Terminate: // what is being sent when the time to finish is over is cut short
		return recorded && f.upon(o.holders) && f.during(o.from, o.to) && !o.to.Before(f.From.Add(grace-nearby))
	case f.Kind == TerminateAway && c.Plan.Daemons == 1:
		return false // what it kept nobody took over
	}
	return !recorded && f.upon(o.holders) && f.during(o.from, o.to)
}

// had says whether a fault came upon somebody who had d at some time before a moment.
func (c *check) had(f Fault, d DeliveryRow, before time.Time) bool {
	holders := map[string]bool{}
	for _, ch := range c.changes[d.Event] {
		if ch.leases() && !ch.At.After(before) && (ch.Delivery == nil || *ch.Delivery == d.ID) {
			holders[c.claimedBy[*ch.Claim]] = true
		}
	}
	return f.upon(holders)
}

// overtaken says whether somebody else took d from the process that a fault came upon, while that
// lasted.
func (c *check) overtaken(f Fault, d DeliveryRow) bool {
	had := false
	for _, ch := range c.changes[d.Event] {
		if !ch.leases() || ch.Delivery != nil && *ch.Delivery != d.ID {
			continue
		}
		switch by := c.claimedBy[*ch.Claim]; {
		case f.upon(map[string]bool{by: true}):
			had = had || ch.At.Before(f.To)
		case had && !ch.At.Before(f.From) && !ch.At.After(f.To.Add(nearby)):
			return true
		}
	}
	return false
}

// still says whether somebody stood still.
func (f Fault) still() bool {
	return f.Kind == Stop || f.Kind == Slow || f.Kind == Failpoint && strings.HasSuffix(f.What, " stop")
}

// during says whether a fault lasted at any time from one moment to another.
func (f Fault) during(from, to time.Time) bool { return !f.To.Before(from) && !f.From.After(to) }

// upon says whether a fault came upon one of these processes.
func (f Fault) upon(processes map[string]bool) bool {
	for name := range processes {
		daemon, _, _ := strings.Cut(name, ".")
		switch first, _, _ := strings.Cut(f.What, " "); {
		case f.Daemon == Everyone:
			return true
		case daemon != "d"+strconv.Itoa(f.Daemon):
		case f.Kind == Kill, f.Kind == Stop, f.Kind == Failpoint:
			if first == name {
				return true
			}
		default: // upon whichever process was there
			return true
		}
	}
	return false
}
