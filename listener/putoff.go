package listener

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// putOff has e, which could not be planned, come back in a while, to whoever claims it then. It is not
// ours any more and takes no room, and nothing is held against it.
func (l *Listener) putOff(e *event, err error) {
	l.sparse.warn("event not planned; it comes back later", err, "event", e.ID, "type", e.Type)
	e.absence = l.absences.next(time.Now(), min(l.store.ttl(), DefaultLease), e.Type)
	if e.lease.dropEvent(e) { // not to be renewed meanwhile, which would have it locked
		l.leases.remove(e.lease)
	}
	l.absent.add(e)
}

// newAbsent is what writes that events are put off. What cannot be written comes back when its lease has run
// out, which is no end of a listener.
func (l *Listener) newAbsent(ctx context.Context) *batcher[*event] {
	none := func(*event) int { return 0 }
	return newBatcher(recordMost, recordBytes, none, func(events []*event) {
		through, cancel := throughStop(ctx)
		defer cancel()
		if !l.release(through, events, nil) {
			for _, e := range events {
				l.alive(e.ID)
			}
		}
	})
}

// absences says when what was put off comes back: one after the other, so that what cannot be planned, however
// much it is, takes little from what can; but the first of a type in time, however much there is of
// others. The zero value has none.
type absences struct {
	some atomic.Bool // types is not empty

	mu    sync.Mutex
	last  time.Time            // the last turn that is taken
	types map[string]time.Time // when the last of each comes back
}

// turnsApart is the time between two turns of one listener, and longestAbsence how far off a turn is at
// most: with more than there are turns in that time, the others come at any time before.
const (
	turnsApart     = 50 * time.Millisecond
	longestAbsence = 10 * time.Minute
)

// next returns the time until the next turn that is free for an event of that type, at least least.
func (a *absences) next(now time.Time, least time.Duration, typ string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := least
	if a.types[typ].After(now) {
		wait = max(a.last.Add(turnsApart).Sub(now), least)
	}
	if wait < longestAbsence {
		a.last = latest(a.last, now.Add(wait))
	} else {
		wait = least + rand.N(longestAbsence-least)
	}
	if a.types == nil || len(a.types) >= mostTypes {
		a.types = map[string]time.Time{}
	}
	a.types[typ] = latest(a.types[typ], now.Add(wait))
	a.some.Store(true)
	return wait
}

// mostTypes is how many are told apart. One that is forgotten is only like one that has none put off.
const mostTypes = 1000

// of reports whether this listener put off events of that type that have not come back.
func (a *absences) of(now time.Time, typ string) bool {
	if !a.some.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.types[typ].After(now) {
		return true
	}
	a.forget(typ)
	return false
}

// over notes that all of that type come back at once.
func (a *absences) over(typ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = time.Time{}
	a.forget(typ)
}

// forget is for who holds mu.
func (a *absences) forget(typ string) {
	delete(a.types, typ)
	a.some.Store(len(a.types) > 0)
}
