package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// worker takes items until ctx ends. It never returns an error: what goes
// wrong with one event is that event's outcome.
func (l *Listener) worker(ctx context.Context) error {
	for {
		if l.stopping.Load() { // what waits is given back together
			select {
			case <-l.taken:
			case <-ctx.Done():
			}
		}
		w, ok := l.queue.pop(ctx)
		if !ok {
			return nil
		}
		l.work(ctx, w)
	}
}

// work does one item. A panic in it is a fault of ours, since those of senders
// and plans are caught where they are called: the item is left to its lease,
// and the others go on.
func (l *Listener) work(ctx context.Context, w work) {
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("panic; what was worked on is left to its lease", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			l.letGo(w)
		}
	}()
	failpoint.Hit("K12")
	if w.job != nil {
		l.try(ctx, w.job)
	} else {
		l.begin(ctx, w.event)
	}
}

// letGo ends the part of w that a panic has left without an outcome. It is
// renewed no further: whoever comes upon it when its lease has run out has it
// as the ledger does. The other deliveries of its event go on.
func (l *Listener) letGo(w work) {
	j, e := w.job, w.event
	if j != nil {
		l.left(j, nothing)
	}
	switch {
	case j == nil: // its deliveries, if it has any, are nobody's yet
		l.forget(e)
		return
	case j.event == nil:
		if j.outcome == nil {
			l.forgetJob(j)
		}
		return
	}
	e = j.event
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case j.outcome != nil:
		if e.left == 0 && !e.parked && !e.handed {
			l.forget(e) // there is none left who would hand it over
		}
	case len(e.jobs) == 1 && !e.parked:
		l.forget(e)
	default:
		// What came of the others must be on record, and of this one whether
		// it was begun.
		j.broken = true
		if !e.parked {
			l.parkNow(e)
		}
		e.left--
		if e.parking {
			return // recorded sees to it
		}
		if j.lease.dropJob(j) {
			l.leases.remove(j.lease)
		}
		if e.left == 0 {
			l.settle(e, true)
		}
	}
}

// verdict is what an attempt says about its destination.
type verdict int

const (
	nothing    verdict = iota // nothing was sent
	answered                  // it answered, with yes or no
	unanswered                // it was too slow, too busy, or not there
)

// try attempts j, for which there is a place in its destination's window.
func (l *Listener) try(ctx context.Context, j *job) {
	if j.aside && !l.brakes.has(j.provider) {
		l.address(j)
		l.queue.rejoin(j)
		return
	}
	v := nothing
	defer func() { l.left(j, v) }()
	v = l.attempt(ctx, j)
}

// left gives back the place that j has in its destination's window, if it has one still,
// and the right to try a braked one.
func (l *Listener) left(j *job, v verdict) {
	l.queue.left(j, v)
	if j.probe {
		l.brakes.probed(j.provider, j.probing)
	}
}

// begin plans e and attempts its first delivery where its destination is free;
// the others go to whoever is.
func (l *Listener) begin(ctx context.Context, e *event) {
	jobs, ok := l.planNow(ctx, e)
	if !ok {
		return
	}
	failpoint.Hit("K4")
	e.Payload = nil // the deliveries have what they need of it
	e.mu.Lock()
	e.jobs, e.left, e.begun = jobs, len(jobs), time.Now()
	e.mu.Unlock()
	if len(jobs) == 0 {
		l.recordWhole(e)
		return
	}
	if frozen(jobs) {
		l.freeze(e)
		return
	}
	for _, j := range jobs {
		l.address(j)
	}
	if first := l.queue.planned(e, jobs); first != nil {
		l.work(ctx, work{job: first})
	}
}

// planNow plans e, which next has brought. Where it cannot, it gives e back or puts it off.
func (l *Listener) planNow(ctx context.Context, e *event) (jobs []*job, ok bool) {
	defer l.queue.planEnded()
	if e.leaseLeft() < margin(l.store.ttl()) {
		l.giveBack(ctx, e, "lease ran out before it was begun")
		return nil, false
	}
	failpoint.Hit("K3")
	jobs, err := l.plan(ctx, e)
	if err != nil {
		l.postpone(e, err)
		return nil, false
	}
	l.wellPlanned(e)
	return jobs, true
}

// address notes where j goes, and how many may go there at once. What is
// settled without an attempt, or put off since it is braked, goes nowhere.
func (l *Listener) address(j *job) {
	policy := l.policy(j)
	looks := j.unclear(policy) && policy.OnUnknown == dispatch.Reconcile // also when it is too late to send it
	j.destination, j.aside = "", false
	switch {
	case j.Channel == dispatch.ChannelSQL || j.waiting() || j.expired && !looks, // to the database, or not known yet, or nowhere
		j.Skip != "" || j.Refused != "" || !l.cfg.Dispatcher.Configured(j.Channel),
		j.state.Terminal() || j.state == dispatch.Held,
		j.unclear(policy) && !looks && policy.OnUnknown != dispatch.Resend:
		return
	}
	name := l.cfg.Dispatcher.Destination(&j.Delivery)
	if policy.Provider && !j.empty() {
		j.provider, j.aside = name, l.brakes.shut(name)
	}
	if !j.aside {
		j.destination, j.concurrency = name, policy.Concurrency
	}
	if j.rate = l.cfg.Rates[j.Channel]; j.rate.Count > 0 && !j.aside {
		j.destination += l.cfg.Dispatcher.RateKey(&j.Delivery)
	}
}

// relieve puts off what waits for destinations that do not answer, so that
// there is room for the others. It is due again after a while, uncounted.
//
// While outcomes cannot be recorded workers wait for that, and destinations are silent
// since they are not asked: that says nothing of them, and neither does it just after.
func (l *Listener) relieve() {
	if !l.recorder.failedWithin(silence) {
		for _, p := range l.queue.overflow() {
			l.sparse.warn("destination does not answer; putting off what waits for it", errors.New(p.job.destination))
			o := p.job.notBegun(p.wait)
			if p.job.lastError == HeldBy(p.job.provider) {
				o.Reason = slowBy(p.job.provider) // it does not wait for the end of a brake any more
			}
			l.finish(p.job, o)
		}
	}
	l.putOffSurplus()
}

// giveBack lets go of an event that was not begun.
func (l *Listener) giveBack(ctx context.Context, e *event, why string) {
	if why != "" {
		l.sparse.say(slog.LevelWarn, "event not begun", "event", e.ID, "reason", why)
	}
	l.release(context.WithoutCancel(ctx), []*event{e}, nil)
}

// forget drops an event that is no longer ours, or no longer of interest.
func (l *Listener) forget(e *event) {
	if !e.over.CompareAndSwap(false, true) {
		return
	}
	if e.lease.dropEvent(e) {
		l.leases.remove(e.lease)
	}
	e.tally.lost()
	l.queue.settled(&e.load, false)
}

// forgetJob drops a delivery that is on its own and no longer ours.
func (l *Listener) forgetJob(j *job) {
	if !j.over.CompareAndSwap(false, true) {
		return
	}
	if j.lease.dropJob(j) {
		l.leases.remove(j.lease)
	}
	j.tally.lost()
	l.queue.settled(&j.load, false)
}
