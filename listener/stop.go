package listener

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// seenThrough is how long what is asked of the database when a stop comes may take: it is
// seen through, but a database that hangs is not waited for.
const seenThrough = 2 * time.Second

// throughStop returns a context that ends seenThrough after ctx does.
func throughStop(ctx context.Context) (context.Context, context.CancelFunc) {
	through, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(seenThrough, cancel) })
	return through, func() {
		stop()
		cancel()
	}
}

// recordGrace is how long outcomes may take to be written after the grace
// period is over.
const recordGrace = 5 * time.Second

// drainPool gives back what was not begun and waits for the rest, at most for
// the grace period; then it cuts short what is being sent.
func (l *Listener) drainPool(cut context.CancelFunc) {
	deadline := time.Now().Add(l.cfg.ShutdownGrace)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	l.stopping.Store(true)
	events, planned := l.queue.takeAll()
	suspects, alone := l.emptyLane()
	close(l.taken)
	failpoint.Hit("K17")
	l.giveBackAll(ctx, append(events, suspects...), append(planned, alone...))
	if !l.awaitPool(deadline) {
		l.log.Warn("grace period is over; cutting short what is being sent", "open", l.queue.holds())
		cut()
		l.awaitPool(time.Now().Add(recordGrace)) // what is left then is in keepLeftover
	}
}

// awaitWorkers waits for the workers to have ended, but not for ever, and reports
// whether they have: a handler that does not look at its context cannot be stopped,
// only left behind.
func awaitWorkers(ended <-chan struct{}) bool {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// awaitPool waits until nothing is held, or until the deadline.
func (l *Listener) awaitPool(deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for l.queue.holds() > 0 {
		select {
		case <-l.queue.freed:
		case <-timer.C:
			return l.queue.holds() == 0
		}
	}
	return true
}

// giveBackAll returns what was claimed and not begun, uncounted, in one
// statement but for what the ledger knows already.
func (l *Listener) giveBackAll(ctx context.Context, events []*event, planned []*job) {
	var jobs []*job
	for _, j := range planned {
		switch {
		case j.event == nil:
			jobs = append(jobs, j)
		case l.withdraw(j):
			events = append(events, j.event)
		}
	}
	slices.SortFunc(events, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	if len(events)+len(jobs) == 0 {
		return
	}
	l.release(ctx, events, jobs)
}

// release gives back what was claimed and not begun, and forgets it.
func (l *Listener) release(ctx context.Context, events []*event, jobs []*job) {
	l.notGivenBack(len(events), len(jobs), l.handBackAll(ctx, events, jobs))
	l.forgetAll(events, jobs)
}

// handBackAll gives back what was claimed and not begun. What is locked by somebody else it leaves to its lease, and that is an
// error, too.
func (l *Listener) handBackAll(ctx context.Context, events []*event, jobs []*job) error {
	for _, e := range events {
		e.hand()
	}
	for _, j := range jobs {
		j.recording.Store(true)
	}
	locked, err := l.store.release(ctx, events, jobs)
	if err == nil && locked > 0 {
		err = fmt.Errorf("%d of %d are locked by somebody else", locked, len(events)+len(jobs))
	}
	return err
}

// notGivenBack says so, where there is an error.
func (l *Listener) notGivenBack(events, deliveries int, err error) {
	if err != nil {
		l.sparse.warn("claims not given back; their leases will run out", fmt.Errorf("%d events, %d deliveries: %w", events, deliveries, err))
	}
}

func (l *Listener) forgetAll(events []*event, jobs []*job) {
	for _, e := range events {
		l.forget(e)
	}
	for _, j := range jobs {
		l.forgetJob(j)
	}
}

// withdraw ends j, a delivery of an event, without an attempt, and reports
// whether that leaves nothing of the event to be recorded.
func (l *Listener) withdraw(j *job) bool {
	e := j.event
	e.mu.Lock()
	fresh := !e.parked && !j.known && !j.announced
	if fresh {
		o := j.notBegun(0)
		j.outcome = &o
		e.left--
	}
	last := fresh && e.left == 0
	e.mu.Unlock()
	switch {
	case !fresh:
		l.handBack(j) // the record takes it along
	case last && e.untouched():
		return true
	case last:
		l.recordWhole(e)
	}
	return false
}
