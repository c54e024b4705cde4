//go:build unix

package faultrig

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

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
		if ch.OldClaim != nil && (ch.Delivery != nil || ch.OldClaim.Version() != 5) { // what is put off is nobody's
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
// claim is that of a record, or of what is put off. Whoever finds out that a destination answers again, or that a type can
// be planned, does that for all that waits for it.
func (c Change) hastened() bool {
	return same(c.OldClaim, c.Claim) && c.Claim != nil && c.Claim.Version() == 5 &&
		*c.OldState == c.State && (c.Delivery == nil || *c.OldAttempts == *c.Tries) && c.OldUntil != nil && c.Until != nil && c.Until.Before(*c.OldUntil)
}

// keptBy says whether a process had ended by SIGTERM before a moment, so that what it
// could not record may be recorded in its name. Any listener may: all of them have
// the same state directory.
func (c *check) keptBy(app string, at time.Time) bool {
	return slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
		return f.Kind == Terminate && f.What == app && f.To.Before(at.Add(c.Plan.slack()))
	})
}

func (c *check) eventOf(delivery uuid.UUID) uuid.UUID { return c.placeOf(delivery).event }
