package listener

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// lane is where those wait that are tried one after the other, since listeners ended
// again and again that had them.
type lane struct {
	mu      sync.Mutex
	waiting []work
	trying  bool          // one of those is under way
	loose   []work        // begun outside of the lane, though a listener ended that had them
	more    chan struct{} // readable when something was added
	slow    []work        // begun, and not over when the others did not wait for it any more; runLane's own

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
	w, n.waiting, n.trying = n.waiting[0], n.waiting[1:], true
	return w, true
}

// beside reports whether w, which a listener ended with, may begin outside of the lane:
// not while something is tried in it, or waits to be.
func (n *lane) beside(w work) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.trying || len(n.waiting) > 0 {
		return false
	}
	n.loose = append(slices.DeleteFunc(n.loose, work.over), w)
	return true
}

// takeLoose returns those that began outside of the lane and are not over. They are its
// own from then on.
func (n *lane) takeLoose() []work {
	n.mu.Lock()
	defer n.mu.Unlock()
	loose := slices.DeleteFunc(n.loose, work.over)
	n.loose = nil
	return loose
}

// try notes whether one of the lane is under way, beside which nothing of the kind begins.
func (n *lane) try(is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trying = is
}

func (n *lane) waits() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.waiting) > 0
}

// runLane tries what waits in the lane, one after the other, until ctx ends; what it
// did not come to is given back.
func (l *Listener) runLane(ctx context.Context) {
	for ctx.Err() == nil {
		if w, ok := l.lane.pop(); ok {
			l.tryAlone(ctx, w)
			l.lane.try(false)
			continue
		}
		if slow := l.lane.slow; len(slow) > 0 {
			l.lane.slow = slow[1:]
			l.lane.try(true)
			l.markAlone(ctx, slow[0])
			l.watch(ctx, slow[0], 0)
			l.lane.try(false)
			continue
		}
		select {
		case <-ctx.Done():
		case <-l.lane.more:
		}
	}
	l.emptyLane()
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
	ctx, cancel := context.WithTimeout(context.Background(), seenThrough)
	defer cancel()
	l.giveBackAll(ctx, events, jobs)
}

// lookAgain is when watch looks whether it is over.
const lookAgain = 5 * time.Millisecond

// tryAlone begins w and waits until it is over; where others wait in the lane, at most
// for the time of a lease.
func (l *Listener) tryAlone(ctx context.Context, w work) {
	l.log.Warn("listeners ended while they had this; trying it alone", "id", w.suspect())
	l.awaitLoose(ctx)
	l.markAlone(ctx, w)
	l.queue.lend(-1)
	if w.event != nil {
		l.queue.claimed([]*event{w.event})
	} else {
		l.queue.claimedJobs([]*job{w.job})
	}
	l.watch(ctx, w, l.store.ttl())
}

// awaitLoose waits, for the time of a lease, until what began outside of the lane is over that may
// bring us down, too. What takes longer is slow.
func (l *Listener) awaitLoose(ctx context.Context) {
	loose := l.lane.takeLoose()
	begun := time.Now()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for len(loose) > 0 && time.Since(begun) < l.store.ttl() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		loose = slices.DeleteFunc(loose, work.over)
	}
	l.lane.slow = append(l.lane.slow, loose...)
}

// watch waits until w, which has begun, is over. Once patience has passed, others in the
// lane are not to wait for it: then it is slow, and neither it nor they are alone.
func (l *Listener) watch(ctx context.Context, w work, patience time.Duration) {
	begun := time.Now()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for !w.over() {
		select {
		case <-ctx.Done():
			return // it is finished, or given back
		case <-tick.C:
		}
		if time.Since(begun) >= patience && l.lane.waits() {
			l.lane.slow = append(l.lane.slow, w)
			l.noteAlone(ctx, w, false)
			return
		}
	}
	l.alive(w.suspect())
}

// markAlone notes whether w is tried alone: none that was slow, or began outside of the lane, is under way any more.
func (l *Listener) markAlone(ctx context.Context, w work) {
	l.lane.slow = slices.DeleteFunc(l.lane.slow, func(s work) bool {
		if s.over() {
			l.alive(s.suspect())
		}
		return s.over()
	})
	l.lane.slow = append(l.lane.slow, l.lane.takeLoose()...)
	l.noteAlone(ctx, w, len(l.lane.slow) == 0)
}

func (l *Listener) noteAlone(ctx context.Context, w work, alone bool) {
	ctx, cancel := throughStop(ctx)
	defer cancel()
	err := l.store.tryAlone(ctx, w.suspect(), alone)
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

// origin is the event that w was before it was on record with its deliveries; the zero
// UUID where it is one. What was sent again by a person begins anew.
func (w work) origin() (id uuid.UUID) {
	if w.job != nil && w.job.generation == 0 {
		id = w.job.EventID
	}
	return id
}

func (w work) over() bool {
	if w.event != nil {
		return w.event.over.Load()
	}
	return w.job.over.Load()
}
