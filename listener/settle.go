package listener

import (
	"context"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// slow is how long an event may be worked on before its deliveries go on by
// themselves, so that it does not hold the floor of the claims.
const slow = time.Second

// parkSlow parks events that take long, until ctx ends.
func (l *Listener) parkSlow(ctx context.Context) {
	tick := time.NewTicker(slow / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
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
	e.parked, e.parking = true, true
	en := entry{event: e, rows: e.rows(l.store.lease)}
	for _, j := range e.jobs {
		if j.outcome == nil {
			en.open = append(en.open, j)
		}
	}
	e.left = len(en.open)
	l.recorder.add(en)
}

// recorded is called for each entry once it is on record, or fenced off.
func (l *Listener) recorded(en entry, kept bool) {
	if !kept {
		l.fenced.Add(1)
		l.log.Warn("outcome came after the lease was taken over, or its event is gone", "event", en.eventID())
	}
	if en.job != nil {
		l.recordedJob(en.job, kept)
		return
	}
	e := en.event
	for _, r := range en.rows {
		if kept && r.outcome != nil && r.dueIn != nil {
			l.noteDue(time.Duration(*r.dueIn * float64(time.Second)))
		}
	}
	l.queue.unload(e)
	if len(en.open) > 0 {
		e.lease.park(e, en.open)
		e.mu.Lock()
		finished := e.after
		e.parking, e.after = false, nil
		e.mu.Unlock()
		for _, j := range finished {
			l.recorder.add(entry{job: j})
		}
		return
	}
	if e.lease.dropEvent(e) {
		l.leases.remove(e.lease)
	}
	l.settle(e.tally, e.jobs, e.begun, kept)
}

// recordedJob is recorded for a delivery that is on its own. The last one of
// a parked event settles it.
func (l *Listener) recordedJob(j *job, kept bool) {
	if j.lease.dropJob(j) {
		l.leases.remove(j.lease)
	}
	if kept && !j.outcome.State.Terminal() && j.outcome.State != dispatch.Held {
		l.noteDue(j.wait)
	}
	e := j.event
	if e == nil {
		l.settle(j.tally, []*job{j}, time.Now().Add(-j.took), kept)
		return
	}
	e.mu.Lock()
	e.left--
	last := e.left == 0
	e.mu.Unlock()
	if last {
		l.settle(e.tally, e.jobs, e.begun, kept)
	}
}

// settle counts what is over.
func (l *Listener) settle(t *tally, jobs []*job, begun time.Time, kept bool) {
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
	l.queue.settled(1, worked)
	l.batch.flush(l.queue.holds() == 0)
}

// allNotBegun reports whether nothing was attempted of any of jobs.
func allNotBegun(jobs []*job) bool {
	for _, j := range jobs {
		if j.outcome == nil || j.outcome.State != dispatch.Ready && j.outcome.State != dispatch.Sending {
			return false
		}
	}
	return len(jobs) > 0
}
