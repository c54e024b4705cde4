package listener

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// putOff has e, which could not be planned, come back in a while, to whoever claims it then. It is not
// ours any more and takes no room, and nothing is held against it.
func (l *Listener) putOff(e *event, err error) {
	l.sparse.warn("event not planned; it comes back later", err, "event", e.ID, "type", e.Type)
	e.absence = min(l.store.ttl(), DefaultLease)
	if l.patient { // what a run that ends by itself puts off is there for the next one
		e.absence = l.absences.next(time.Now(), e.absence, e.Type)
	}
	if e.lease.dropEvent(e) { // not to be renewed meanwhile, which would have it locked
		l.leases.remove(e.lease)
	}
	l.absent.add(e)
}

// newAbsent is what writes that events are put off. While the database does not do it it is tried again, as long as they
// are ours, but not at a stop: once their lease has run out it looks as if a listener had ended with them.
func (l *Listener) newAbsent(ctx context.Context) *batcher[*event] {
	none := func(*event) int { return 0 }
	return newBatcher(recordMost, recordBytes, none, func(events []*event) {
		through, cancel := throughStop(ctx)
		defer cancel()
		err := l.handBackAll(through, events, nil)
		for try := 1; err != nil && !l.stopping.Load() && allHeld(events, margin(l.store.ttl())); try++ {
			wait(ctx, pause(try))
			err = l.handBackAll(through, events, nil)
		}
		l.notGivenBack(len(events), 0, err)
		l.forgetAll(events, nil)
	})
}

// allHeld reports whether events are ours for that long.
func allHeld(events []*event, left time.Duration) bool {
	return !slices.ContainsFunc(events, func(e *event) bool { return e.leaseLeft() < left })
}

// absences says when what was put off comes back: one after the other, so that what cannot be planned, however
// much it is, takes little from what can; but one of each type in time, however much there is of
// others. The zero value has none.
type absences struct {
	some atomic.Bool // types is not empty

	mu    sync.Mutex
	last  time.Time // the last turn that is taken
	types map[string]absence
}

// absence is when what was put off of a type comes back: the one in front, and the last.
type absence struct{ front, last time.Time }

// turnsApart is the time between two turns of one listener, and longestAbsence how far off a turn is at
// most: with more than there are turns in that time, the others come at any time before.
const (
	turnsApart     = 50 * time.Millisecond
	longestAbsence = 10 * time.Minute
)

// mostTypes is how many are told apart. One more is like one that has none put off, and none of it is in front.
const mostTypes = 1000

// next returns the time until the next turn that is free for an event of that type, at least least.
func (a *absences) next(now time.Time, least time.Duration, typ string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.types == nil {
		a.types = map[string]absence{}
	}
	t, known := a.types[typ]
	if !known && len(a.types) >= mostTypes {
		maps.DeleteFunc(a.types, func(_ string, t absence) bool { return !t.last.After(now) })
	}
	known = known || len(a.types) < mostTypes
	if known && !t.front.After(now) {
		t.front = now.Add(least)
		t.last = latest(t.last, t.front)
		a.types[typ] = t
		a.some.Store(true)
		return least
	}
	wait := max(a.last.Add(turnsApart).Sub(now), least)
	if wait < longestAbsence {
		a.last = now.Add(wait)
	} else {
		wait = least + rand.N(longestAbsence-least)
	}
	if known {
		t.last = latest(t.last, now.Add(wait))
		a.types[typ] = t
	}
	return wait
}

// of reports whether this listener put off events of that type that have not come back.
func (a *absences) of(now time.Time, typ string) bool {
	if !a.some.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.types[typ].last.After(now) {
		return true
	}
	a.forget(typ)
	return false
}

// over notes that all of that type have come back.
func (a *absences) over(typ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(typ)
}

// forget is for who holds mu. The turns begin anew where nobody waits for one.
func (a *absences) forget(typ string) {
	if delete(a.types, typ); len(a.types) == 0 {
		a.some.Store(false)
		a.last = time.Time{}
	}
}
