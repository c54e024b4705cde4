package listener

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

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
	return l.lane.prune() == 0 && !slices.ContainsFunc(l.lane.slow, func(s work) bool { return !s.over() })
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
