package listener

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// lane is where those wait that are tried one after the other, since listeners ended
// again and again that had them; and those that a listener ended with once, while one of the
// former is under way.
type lane struct {
	mu      sync.Mutex
	waiting []work        // to be tried one after the other
	trying  bool          // one of those is under way
	since   time.Time     // since when nothing fresh begins beside them; zero where none waits or is under way
	aside   []work        // to begin together, once none of those waits or is under way
	fresh   []work        // that no listener ended with: for undisturbed at most, or until then
	loose   []work        // begun beside each other, though a listener ended that had them
	lent    int           // of what waits, how many count as held
	more    chan struct{} // readable when something was added
	slow    []work        // begun, and not over when the others did not wait for it any more; runLane's own

	alive uuids         // what is known of these among the crashes is wrong
	lives chan struct{} // readable when something was added
}

// undisturbed is how long nothing at all begins beside what is tried alone, counted from the
// first of those that wait for that.
const undisturbed = 5 * time.Second

// queueAlone has w wait to be tried by itself.
func (l *Listener) queueAlone(w work) {
	l.lane.mu.Lock()
	l.lane.waiting = append(l.lane.waiting, w)
	if l.lane.since.IsZero() {
		l.lane.since = time.Now()
	}
	l.lendLane()
	l.lane.mu.Unlock()
	signal(l.lane.more)
}

// beginsNow reports whether w begins now. While something is tried alone, or waits to be,
// what a listener ended with waits for that to be over; what none did waits at first.
func (l *Listener) beginsNow(w work, suspected bool) bool {
	n := &l.lane
	n.mu.Lock()
	defer n.mu.Unlock()
	switch busy := n.trying || len(n.waiting) > 0; {
	case busy && suspected:
		n.aside = append(n.aside, w)
	case busy && time.Since(n.since) < undisturbed:
		n.fresh = append(n.fresh, w)
	case suspected:
		n.loose = append(n.loose, w)
		return true
	default:
		return true
	}
	l.lendLane()
	signal(n.more)
	return false
}

// inUse reports whether something is tried alone, or waits to be.
func (n *lane) inUse() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trying || len(n.waiting) > 0
}

// lendLane counts what waits in the lane as held: of what listeners ended with up to half of
// what may be, since the rest of the room is for others, however many of them ended. The caller
// holds lane.mu.
func (l *Listener) lendLane() {
	n, q := &l.lane, l.queue
	lend := min(len(n.waiting)+len(n.aside), (q.workers+2*q.batch)/2) + len(n.fresh)
	q.lend(lend - n.lent)
	n.lent = lend
}

// lend counts n more, or fewer, as held.
func (q *queue) lend(n int) {
	q.mu.Lock()
	q.held += n
	q.mu.Unlock()
	if n < 0 {
		signal(q.freed)
	}
}

// popAlone takes the next that is to be tried by itself.
func (l *Listener) popAlone() (w work, ok bool) {
	n := &l.lane
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 {
		return w, false
	}
	w, n.waiting, n.trying = n.waiting[0], n.waiting[1:], true
	if len(n.fresh) == 0 {
		n.since = time.Now() // nobody waits longer for it
	}
	l.lendLane()
	return w, true
}

// popAside takes those that begin together, where nothing waits to be tried by itself.
func (l *Listener) popAside() (all []work) {
	n := &l.lane
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) > 0 {
		return nil
	}
	n.since = time.Time{}
	all, n.aside = n.aside, nil
	n.loose = append(n.loose, all...)
	all, n.fresh = append(all, n.fresh...), nil
	l.lendLane()
	return all
}

// launchFresh has those begin that no listener ended with, once they have waited for undisturbed.
func (l *Listener) launchFresh() {
	n := &l.lane
	n.mu.Lock()
	var all []work
	if len(n.fresh) > 0 && time.Since(n.since) >= undisturbed {
		all, n.fresh = n.fresh, nil
		l.lendLane()
	}
	n.mu.Unlock()
	l.launch(all...)
}

// add has the lane wait for w, which has begun.
func (n *lane) add(w work) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loose = append(n.loose, w)
}

// prune forgets those that began beside each other and are over.
func (n *lane) prune() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loose = slices.DeleteFunc(n.loose, work.over)
}

// takeLoose returns those that began beside each other and are not over. They are its own
// from then on.
func (n *lane) takeLoose() []work {
	n.mu.Lock()
	defer n.mu.Unlock()
	loose := slices.DeleteFunc(n.loose, work.over)
	n.loose = nil
	return loose
}

// try notes whether one is under way that is to be by itself.
func (n *lane) try(is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trying = is
}

func (n *lane) waits() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.waiting)+len(n.aside) > 0
}

// runLane tries what waits in the lane, one after the other, until ctx ends.
func (l *Listener) runLane(ctx context.Context) {
	for ctx.Err() == nil {
		if w, ok := l.popAlone(); ok {
			l.tryAlone(ctx, w)
			l.lane.try(false)
			continue
		}
		if all := l.popAside(); len(all) > 0 {
			l.launch(all...)
			continue
		}
		if slow := l.lane.slow; len(slow) > 0 {
			l.lane.slow = slow[1:]
			l.lane.try(true)
			l.watch(ctx, slow[0], l.markAlone(ctx, slow[0]), 0)
			l.lane.try(false)
			continue
		}
		select {
		case <-ctx.Done():
		case <-l.lane.more:
		}
	}
}

// part parts events from deliveries.
func part(all []work) (events []*event, jobs []*job) {
	for _, w := range all {
		if w.event != nil {
			events = append(events, w.event)
		} else {
			jobs = append(jobs, w.job)
		}
	}
	return events, jobs
}

// launch has all begin.
func (l *Listener) launch(all ...work) {
	events, jobs := part(all)
	if len(events) > 0 {
		l.queue.claimed(events)
	}
	if len(jobs) > 0 {
		l.queue.claimedJobs(jobs)
	}
}

// emptyLane takes what waits in the lane, when nothing claims any more, to be given back.
func (l *Listener) emptyLane() (events []*event, jobs []*job) {
	l.lane.mu.Lock()
	all := slices.Concat(l.lane.waiting, l.lane.aside, l.lane.fresh)
	l.lane.waiting, l.lane.aside, l.lane.fresh = nil, nil, nil
	l.lendLane()
	l.lane.mu.Unlock()
	l.queue.lend(len(all)) // until it is
	return part(all)
}

// lookAgain is when watch looks whether it is over.
const lookAgain = 5 * time.Millisecond

// tryAlone begins w and waits until it is over; where others wait in the lane, at most
// for the time of a lease.
func (l *Listener) tryAlone(ctx context.Context, w work) {
	l.log.Warn("listeners ended while they had this; trying it alone", "id", w.suspect())
	l.awaitLoose(ctx)
	if ctx.Err() != nil {
		l.queueAlone(w) // to be given back; it is on record as tried alone no more than before
		return
	}
	alone := l.markAlone(ctx, w)
	l.launch(w)
	l.watch(ctx, w, alone, l.store.ttl())
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
		l.launchFresh()
		loose = slices.DeleteFunc(loose, work.over)
	}
	l.lane.slow = append(l.lane.slow, loose...)
}

// watch waits until w, which has begun, is over. Once patience has passed, others in the
// lane are not to wait for it: then it is slow, and neither it nor they are alone. Where it
// is not alone, it is once what was beside it is over.
func (l *Listener) watch(ctx context.Context, w work, alone bool, patience time.Duration) {
	begun := time.Now()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for !w.over() {
		select {
		case <-ctx.Done(): // it is finished, or given back, and others begin beside it
			l.noteAlone(ctx, w, false)
			return
		case <-tick.C:
		}
		l.launchFresh()
		if time.Since(begun) >= patience && l.lane.waits() {
			l.lane.slow = append(l.lane.slow, w)
			l.noteAlone(ctx, w, false)
			return
		}
		if !alone && l.byItself() {
			alone = l.markAlone(ctx, w)
		}
	}
	l.outlived(ctx, w)
}

// outlived is called where w is over, and did not bring us down. What was put off, or given back,
// has shown nothing of the kind.
func (l *Listener) outlived(ctx context.Context, w work) {
	if w.tried() {
		l.alive(w.suspect())
	} else {
		l.noteAlone(ctx, w, false)
	}
}

// byItself reports whether none that was slow, or began outside of the lane, is under way any more.
func (l *Listener) byItself() bool {
	l.lane.prune()
	l.lane.mu.Lock()
	loose := len(l.lane.loose)
	l.lane.mu.Unlock()
	return loose == 0 && !slices.ContainsFunc(l.lane.slow, func(s work) bool { return !s.over() })
}

// markAlone notes, and returns, whether w is tried alone: by itself, that is.
func (l *Listener) markAlone(ctx context.Context, w work) (alone bool) {
	l.lane.slow = append(l.lane.slow, l.lane.takeLoose()...)
	l.lane.slow = slices.DeleteFunc(l.lane.slow, func(s work) bool {
		over := s.over()
		if over && ctx.Err() == nil {
			l.outlived(ctx, s)
		}
		return over
	})
	alone = len(l.lane.slow) == 0
	l.noteAlone(ctx, w, alone)
	return alone
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

// origin is the event that w was before it was on record with its deliveries; none where it
// is one. What was sent again by a person begins anew.
func (w work) origin() (id pgtype.UUID) {
	if w.job != nil && w.job.generation == 0 {
		id = pgtype.UUID{Bytes: w.job.EventID, Valid: true}
	}
	return id
}

// over reports whether nothing is under way of w any more.
func (w work) over() bool {
	if w.event != nil {
		return w.event.over.Load()
	}
	return w.job.over.Load()
}

// tried reports whether w, which is over, had all done for it that may bring a listener down.
func (w work) tried() bool {
	if j := w.job; j != nil {
		return j.outcome != nil && !j.idle
	}
	e := w.event
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.begun.IsZero() && !allNotBegun(e.jobs)
}
