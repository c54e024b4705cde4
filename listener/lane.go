package listener

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

// lane is where those wait that are tried one after the other, since listeners ended
// again and again that had them.
type lane struct {
	mu      sync.Mutex
	waiting []work
	more    chan struct{} // readable when something was added

	alive uuids         // what is known of these among the crashes is wrong
	lives chan struct{} // readable when something was added
}

// queueAlone has w wait in the lane. It counts as held meanwhile.
func (l *Listener) queueAlone(w work) {
	l.queue.lend(1)
	l.lane.mu.Lock()
	l.lane.waiting = append(l.lane.waiting, w)
	l.lane.mu.Unlock()
	signal(l.lane.more)
}

// lend counts n more, or fewer, as held.
func (q *queue) lend(n int) {
	q.mu.Lock()
	q.held += n
	q.mu.Unlock()
}

func (n *lane) pop() (w work, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 {
		return w, false
	}
	w, n.waiting = n.waiting[0], n.waiting[1:]
	return w, true
}

// runLane tries what waits in the lane, one after the other, until ctx ends; what it
// did not come to is given back.
func (l *Listener) runLane(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			l.emptyLane()
			return
		case <-l.lane.more:
		}
		for ctx.Err() == nil {
			w, ok := l.lane.pop()
			if !ok {
				break
			}
			l.tryAlone(ctx, w)
		}
	}
}

func (l *Listener) emptyLane() {
	var events []*event
	var jobs []*job
	for w, ok := l.lane.pop(); ok; w, ok = l.lane.pop() {
		if w.event != nil {
			events = append(events, w.event)
		} else {
			jobs = append(jobs, w.job)
		}
	}
	l.giveBackAll(context.Background(), events, jobs)
}

// lookAgain is when tryAlone looks whether it is over.
const lookAgain = 5 * time.Millisecond

// tryAlone begins w and waits until it is over, at most for the time of a lease.
func (l *Listener) tryAlone(ctx context.Context, w work) {
	id := w.suspect()
	l.log.Warn("listeners ended while they had this; trying it alone", "id", id)
	l.markAlone(ctx, id, true)
	l.queue.lend(-1)
	if w.event != nil {
		l.queue.claimed([]*event{w.event})
	} else {
		l.queue.claimedJobs([]*job{w.job})
	}
	timer := time.NewTimer(l.store.ttl())
	defer timer.Stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for !w.over() {
		select {
		case <-ctx.Done():
			return // it is finished, or given back
		case <-timer.C:
			l.markAlone(ctx, id, false) // it takes its time, and the others are not to wait for it
			return
		case <-tick.C:
		}
	}
	l.alive(id)
}

func (l *Listener) markAlone(ctx context.Context, id uuid.UUID, alone bool) {
	err := l.store.tryAlone(context.WithoutCancel(ctx), id, alone)
	if err != nil {
		l.sparse.warn("what is tried alone is not noted", err)
	}
}

// suspect is what w is known by among the crashes.
func (w work) suspect() uuid.UUID {
	if w.event != nil {
		return w.event.ID
	}
	return w.job.ID
}

func (w work) over() bool {
	if w.event != nil {
		return w.event.over.Load()
	}
	return w.job.over.Load()
}
