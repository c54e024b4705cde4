package listener

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// slow is how long an event may be worked on before its deliveries go on by
// themselves, so that it does not hold the floor of the claims.
const slow = time.Second

// parkSlow parks events that take long, until ctx ends.
func (l *Listener) parkSlow(ctx context.Context) {
	for comeRound(ctx, slow/4, l.leases.none(), l.leases.forParking) {
		l.lane.prune()
		for _, ls := range l.leases.snapshot() {
			events, _ := ls.held()
			for _, e := range events {
				l.park(e)
			}
		}
	}
}

func (l *Listener) park(e *event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parked || e.left == 0 || e.begun.IsZero() || time.Since(e.begun) < slow {
		return
	}
	l.parkNow(e)
}

// parkNow parks e, which has deliveries without an outcome. The caller holds
// e.mu.
func (l *Listener) parkNow(e *event) {
	e.parked, e.parking = true, true
	en := entry{event: e, rows: e.rows(l.store.ttl()), until: heldFor(l.store.ttl())}
	for _, j := range e.jobs {
		if j.outcome == nil {
			en.open = append(en.open, j)
		}
	}
	e.left, e.asParked = len(en.open), en.rows
	l.recorder.add(en)
}

// recorded is called for each entry once it is on record, or fenced off.
func (l *Listener) recorded(en entry, kept bool) {
	failpoint.Hit("K11")
	if !kept {
		l.fenced.Add(1)
		l.sparse.say(slog.LevelWarn, "outcome came after the lease was taken over, or its event is gone", "event", en.eventID())
		l.alive(en.suspect())
	}
	if en.job != nil {
		l.recordedJob(en.job, kept)
		return
	}
	if en.frozen { // and fenced off: nothing of it has left
		l.forget(en.event)
		return
	}
	e := en.event
	for _, r := range en.rows {
		if r.outcome != nil && r.dueIn != nil {
			l.recordedDue(r.job, r.outcome, fromSeconds(*r.dueIn), kept)
		}
	}
	if len(en.open) > 0 {
		l.parkedNow(en, kept, kept || en.orphan)
		return
	}
	if e.lease.dropEvent(e) {
		l.leases.remove(e.lease)
	}
	l.settle(e, kept)
}

// parkedNow notes that the event of en is parked with its deliveries that were without an
// outcome at the time. From here on they are recorded one by one.
//
// Where e was taken over before, they are not ours: whoever has e takes them over
// with it, and until then their rows still name our claim. An outcome would be
// recorded under it that he does not expect: what is dead he would plan anew, and what
// is due a third would take.
func (l *Listener) parkedNow(en entry, kept, ours bool) {
	e := en.event
	e.mu.Lock()
	open := slices.DeleteFunc(slices.Clone(en.open), func(j *job) bool { return j.broken })
	finished, last := e.after, e.left == 0
	e.parking, e.after, e.asParked, e.fenced = false, nil, nil, !ours
	for _, j := range open {
		switch {
		case !ours:
			j.lost.Store(true)
		case !j.announced:
			j.known = true // its row is there, and its announcement has to find it
		}
	}
	empty := e.lease.park(e, open, en.until)
	e.mu.Unlock()
	if empty {
		l.leases.remove(e.lease)
	}
	for _, j := range finished {
		if ours {
			l.recordAlone(j)
		} else {
			l.recorded(entry{job: j}, false)
		}
	}
	if last {
		l.settle(e, kept)
	}
}

// recordedJob is recorded for a delivery that is on its own. The last one of
// a parked event settles it.
func (l *Listener) recordedJob(j *job, kept bool) {
	if j.lease.dropJob(j) {
		l.leases.remove(j.lease)
	}
	if o := j.outcome; o != nil && !o.State.Terminal() && o.State != dispatch.Held {
		l.recordedDue(j, o, j.wait, kept)
	}
	e := j.event
	if e == nil {
		if j.over.CompareAndSwap(false, true) {
			if j.condemned && kept {
				l.alive(j.ID)
			}
			l.count(j.tally, []*job{j}, &j.load, time.Now().Add(-j.took), kept)
		}
		return
	}
	e.mu.Lock()
	e.left--
	last := e.left == 0
	e.mu.Unlock()
	if last {
		l.settle(e, kept)
	}
}

// recordedDue is recorded for a delivery that is due again in wait.
func (l *Listener) recordedDue(j *job, o *dispatch.Outcome, wait time.Duration, kept bool) {
	if kept {
		l.noteDue(wait)
	}
	l.heldLate(j, o, wait)
}

// settle counts e, which is over, once.
func (l *Listener) settle(e *event, kept bool) {
	if e.over.CompareAndSwap(false, true) {
		if e.poison != "" && kept {
			l.alive(e.ID) // who opens it again begins anew
		}
		l.count(e.tally, e.jobs, &e.load, e.begun, kept)
	}
}

// count counts what is over: the deliveries of one event, or one on its own.
func (l *Listener) count(t *tally, jobs []*job, size *load, begun time.Time, kept bool) {
	worked := kept && !allNotBegun(jobs)
	if kept {
		c := classify(jobs)
		if worked {
			l.batch.add(c, begun)
		}
		t.done(c)
	} else {
		t.lost()
	}
	l.queue.settled(size, worked)
	l.batch.flush(l.queue.holds() == 0)
}

// allNotBegun reports whether nothing was attempted of any of jobs.
func allNotBegun(jobs []*job) bool {
	for _, j := range jobs {
		if j.outcome == nil || !j.idle {
			return false
		}
	}
	return len(jobs) > 0
}
