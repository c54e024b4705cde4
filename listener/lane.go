package listener

import (
	"slices"
	"sync"
	"time"
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

// undisturbed is how long nothing at all begins beside what is tried alone: from when the first
// comes that is to be, and from each trial on before which nothing fresh waits.
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
	switch busy := n.busy(); {
	case busy && suspected:
		n.aside = append(n.aside, w)
	case busy && time.Since(n.since) < undisturbed:
		n.fresh = append(n.fresh, w)
	case suspected:
		if len(n.loose) == cap(n.loose) { // it would grow: with what is over it may not have to
			n.loose = slices.DeleteFunc(n.loose, work.over)
		}
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
	return n.busy()
}

// busy is inUse for who holds mu.
func (n *lane) busy() bool { return n.trying || len(n.waiting) > 0 }

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

// prune forgets those that began beside each other and are over, and returns how many are not.
func (n *lane) prune() (left int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loose = slices.DeleteFunc(n.loose, work.over)
	return len(n.loose)
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
