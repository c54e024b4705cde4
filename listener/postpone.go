package listener

import (
	"context"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// planAgain is when a plan that failed is made again. Each time that it fails
// it is three times as long, up to the lease.
const planAgain = time.Second

// postpone has e, whose plan failed, planned again in a while. Until then it
// stays claimed and takes neither a worker nor the place of others. Where too
// much waits so already it is put off: to have it back at once would be to meet the same trouble again
// at once.
func (l *Listener) postpone(e *event, err error) {
	if e.crashes > 0 {
		l.leave(e, err)
		return
	}
	e.unplanned++
	l.hasten.notPlanned(e)
	e.tally.done(failed) // who asked for it does not wait for that
	e.tally = nil
	wait := jittered(ceiling(e.unplanned, dispatch.Retries{First: planAgain, Longest: l.store.ttl()}))
	switch l.queue.postpone(e, wait) {
	case postponed:
		l.sparse.warn("event not planned; trying again", err, "event", e.ID, "type", e.Type)
	case crowded:
		l.putOff(e, err)
	case stopped:
		l.sparse.warn("event not planned; given back", err, "event", e.ID, "type", e.Type)
		l.giveBack(context.Background(), e, "")
	}
}

// leave has e, with which listeners ended, out of the way at once: nobody who is tried alone waits for it, or
// has it beside it. What is known of it stays, but of one that is tried alone itself: that it was, and that nobody
// ended, must not be what a put-off says, so it comes back when its lease has run out.
func (l *Listener) leave(e *event, err error) {
	if e.crashes < l.cfg.MaxCrashes-1 {
		l.putOff(e, err)
		return
	}
	l.sparse.warn("event not planned; it comes back when its lease has run out", err, "event", e.ID, "type", e.Type)
	l.forget(e)
}

// postponement is what became of an event that was to come back later.
type postponement int

const (
	postponed postponement = iota
	crowded                // as many wait as may be held
	stopped                // the queue was emptied, and nothing comes back
)

// postpone takes e, which is in a worker's hands, out of what is held until
// wait is over.
func (q *queue) postpone(e *event, wait time.Duration) postponement {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.load.giant {
		e.Payload = nil // it is read again
	}
	switch {
	case q.stopped:
		return stopped
	case len(q.later) >= q.capacity() || q.laterBytes+len(e.Payload) > aheadBytes:
		return crowded
	}
	q.release(&e.load)
	q.laterBytes += len(e.Payload)
	q.later[e] = time.AfterFunc(wait, func() { q.comeBack(e) })
	signal(q.freed)
	return postponed
}

// comeBack has e planned by the next worker that is free.
func (q *queue) comeBack(e *event) {
	q.mu.Lock()
	if _, waits := q.later[e]; !waits {
		q.mu.Unlock()
		return // it was taken meanwhile
	}
	q.takeLater(e)
	q.add(e)
	q.mu.Unlock()
	signal(q.ready)
}

// takeLater takes e out of what comes back later.
func (q *queue) takeLater(e *event) {
	q.later[e].Stop()
	delete(q.later, e)
	q.laterBytes -= len(e.Payload)
}
