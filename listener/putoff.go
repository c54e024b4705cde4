package listener

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// putOff has e, which could not be planned, come back in a while, to whoever claims it then. It is not
// ours any more and takes no room, and nothing is held against it.
func (l *Listener) putOff(e *event, err error) {
	l.sparse.warn("event not planned; it comes back later", err, "event", e.ID, "type", e.Type)
	e.absence = l.turns.next(time.Now(), l.store.ttl())
	l.absent.add(e)
}

// newAbsent is what writes that events are put off. What cannot be written comes back when its lease has run out.
func (l *Listener) newAbsent(ctx context.Context) *batcher[*event] {
	none := func(*event) int { return 0 }
	return newBatcher(recordMost, recordBytes, none, func(events []*event) { l.release(ctx, events, nil) })
}

// turns says when what was put off comes back: one after the other, so that what cannot be planned, however much it
// is, takes little from what can. The zero value has none waiting.
type turns struct {
	mu   sync.Mutex
	last time.Time // when the last of them is
}

// turnsApart is the time between two turns of one listener, and longestAbsence how far off a turn is at
// most: with more than there are turns in that time, the others come at any time before.
const (
	turnsApart     = 50 * time.Millisecond
	longestAbsence = 10 * time.Minute
)

// next returns the time until the next turn that is free, at least least.
func (t *turns) next(now time.Time, least time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := max(t.last.Add(turnsApart).Sub(now), least)
	if longest := max(longestAbsence, least+turnsApart); wait >= longest {
		return least + rand.N(longest-least)
	}
	t.last = now.Add(wait)
	return wait
}
