package listener

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// The pace of a listener that is awake. As long as the gate is shut nobody
// notifies, so it looks again and again; when nothing came for linger it goes
// to sleep.
const (
	linger      = 10 * time.Millisecond
	restless    = 2 * time.Millisecond
	dozing      = 25 * time.Millisecond // between looks that bring nothing, while it cannot sleep
	rescanEvery = 100 * time.Millisecond
	crowdOf     = 12 // events of one look that are too many to be asleep between
	helpEvery   = 100 * time.Millisecond
	calmWithin  = 100 * time.Millisecond
	calmOf      = 100 // events within calmWithin that are few enough to be woken for
)

// looker claims events step by step, from where it last looked.
type looker struct {
	l       *Listener
	full    bool // the last look brought as many as it asked for
	behind  bool // the mark is so far behind that the last look, at what is new, could not begin there; it left nothing
	dueLast bool // the last single place went to a delivery that was due
	rescan  time.Time
	session int // of the waker, when the marks were last taken from the database

	walk walk
	era  int // of the marks, when it began
}

// bounds are the numbers that the next look is at, above lower and up to upper, and whether
// that is a step of the walk.
func (k *looker) bounds(now time.Time) (lower, upper int64, walking bool) {
	floor, mark, cursor, _ := k.l.marks.get()
	last, era := k.l.marks.seen()
	if era != k.era { // its numbers may be of another server
		k.walk.on, k.walk.owed, k.era = false, true, era
	}
	k.walk.begin(mark, cursor)
	fresh := cursor
	if k.walk.on { // what is below comes with it
		fresh, last = max(fresh, k.walk.end), max(last, k.walk.end)
	}
	near := fresh-mark < walkStep
	walking, aside := k.walk.step()
	switch upper = top; {
	case aside:
		lower, last, upper = max(k.walk.back.at, floor), k.walk.back.end, k.walk.back.end
	case walking:
		lower = max(k.walk.at, floor)
	case near && (!k.full || now.After(k.rescan)):
		lower = mark
	default:
		lower = fresh
	}
	if last-lower > walkStep {
		upper = lower + walkStep
	}
	k.behind = !near && !walking && upper == top
	return lower, upper, walking
}

// look claims events and hands them to the pool: claims of at most limit, as
// many as room has place for once there is more than one claim brings. exact
// reports that nothing visible above the mark was left out.
func (k *looker) look(ctx context.Context, limit, room int, t *tally) (n int, exact bool, err error) {
	begun := time.Now()
	lower, upper, walking := k.bounds(begun)
	_, mark, cursor, settled := k.l.marks.get()
	times, more := 1, k.full
	if walking {
		more = k.walk.stepping().full
	}
	if more {
		times = min(max(room/limit, 1), mostClaims)
	}
	// A claim that has begun is seen through: cut off, it might commit all
	// the same, and its events would wait out a lease that nobody knows of.
	through, cancel := throughStop(ctx)
	defer cancel()
	claims, full, err := k.l.store.claimEvents(through, lower, upper, limit, times)
	n = events(claims)
	if err != nil { // what came in spite of that says nothing of what lies between
		for _, c := range claims {
			k.l.take(ctx, c.lease, c.events, t)
		}
		k.walk.turn = walking // what is new is not to wait for a step that fails
		return n, false, err
	}
	last, old := max(lower, highest(claims)), false
	for _, c := range claims {
		old = old || slices.ContainsFunc(c.events, func(e *event) bool { return e.ranOut || e.putOff })
	}
	k.l.marks.looked(lower, upper, last, full, settled)
	if lower != cursor {
		// Looking twice costs in proportion to what lies between; it
		// must not take more than a twentieth of the time.
		k.rescan = time.Now().Add(max(rescanEvery, 20*time.Since(begun)))
	}
	if full || !walking { // a step over what is processed says nothing of what is new
		k.full = full
	}
	if t == nil && (full || upper == top) {
		// What a caller of Drain asked for says nothing of what is left.
		k.l.queue.looked(full)
	}
	if walking {
		k.walk.looked(upper, last, full, old, time.Since(begun))
	}
	for _, c := range claims {
		k.l.take(ctx, c.lease, c.events, t)
	}
	k.behind = k.behind && !full && !k.walk.on
	return n, lower <= mark && !full && upper == top && !k.walk.on, nil
}

// mostClaims is how many claims of one round trip are worth it.
const mostClaims = 16

// take hands a claim to the pool.
func (l *Listener) take(ctx context.Context, ls *lease, events []*event, t *tally) {
	l.leases.add(ls)
	for _, e := range events {
		e.tally = t
	}
	t.begin(len(events))
	l.queue.claimed(sift(ctx, l, events))
}

// takeDue claims deliveries whose time has come, up to limit of them, and
// hands them to the pool.
func (l *Listener) takeDue(ctx context.Context, limit int, t *tally) (int, error) {
	through, cancel := throughStop(ctx)
	defer cancel()
	ls, jobs, err := l.store.claimDue(through, limit)
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	l.leases.add(ls)
	for _, j := range jobs {
		j.tally = t
		l.address(j)
	}
	t.begin(len(jobs))
	if now := sift(ctx, l, jobs); len(now) > 0 {
		l.queue.claimedJobs(now)
	}
	return len(jobs), nil
}

// sweep asks what no notification tells: where the floor is, what is paused, and
// when the next delivery is due. anew forgets the marks first.
func (l *Listener) sweep(ctx context.Context, anew bool) error {
	// Forgotten before the database is asked: what is noted meanwhile may be too
	// late for its answer.
	before := l.forgetDue()
	floor, paused, due, waits, err := l.store.nextDue(ctx, l.waker.beatAlong())
	if err != nil {
		if !before.IsZero() {
			l.noteDue(time.Until(before))
		}
		l.waker.beatAlone()
		return err
	}
	if anew {
		l.marks.reset(floor)
	} else {
		l.marks.raise(floor)
	}
	l.heard(ctx, paused)
	if waits {
		l.noteDue(due)
	}
	l.lastSweep.Store(time.Now().UnixNano())
	return nil
}

// noteDue notes that a delivery is due in d.
func (l *Listener) noteDue(d time.Duration) {
	at := time.Now().Add(d)
	l.dueMu.Lock()
	sooner := l.due.IsZero() || at.Before(l.due)
	if sooner {
		l.due = at
	}
	l.dueMu.Unlock()
	if sooner {
		signal(l.dueC)
	}
}

// forgetDue returns what was noted, and has nothing noted.
func (l *Listener) forgetDue() (before time.Time) {
	l.dueMu.Lock()
	defer l.dueMu.Unlock()
	before, l.due, l.made = l.due, time.Time{}, false
	return before
}

// noteMadeDue notes that a transaction of ours made a delivery due, which is there to be
// had: that was not so when due deliveries were last claimed.
func (l *Listener) noteMadeDue() {
	l.dueMu.Lock()
	l.made = true
	l.dueMu.Unlock()
	l.noteDue(0)
}

func (l *Listener) nextDueAt() time.Time {
	l.dueMu.Lock()
	defer l.dueMu.Unlock()
	return l.due
}

// SweepEvery is the time between sweeps: the poll interval, but never more
// than a sixth of the lease, so that the work of a dead listener is taken
// over in time.
func (l *Listener) SweepEvery() time.Duration {
	return min(l.cfg.PollInterval, l.cfg.Lease/6)
}

// nextSweep says when to sweep again. A tenth of the time is at random, so
// that listeners do not sweep in step.
func (l *Listener) nextSweep() time.Time {
	d := l.SweepEvery()
	return time.Now().Add(d - d/20 + rand.N(d/10+1))
}

// drive claims until ctx ends: at once when woken, and from time to time in
// any case.
func (l *Listener) drive(ctx context.Context) error {
	k := &looker{l: l, session: -1} // the first sweep is anew, also before there is a session
	var nextSweep, lastRow, nextCall time.Time
	var stream stream
	fails := 0
	for ctx.Err() == nil {
		leader, epoch := l.waker.gate()
		begun := time.Now()
		n, exact, err := l.round(ctx, k, &nextSweep)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			fails++
			l.observe(ctx) // a look that takes too long is bounded once it is known what was handed out
			l.sparse.warn("claiming failed; trying again", err)
			wait(ctx, pause(fails))
			continue
		}
		fails = 0
		now := time.Now()
		if n > 0 {
			lastRow = now
			if epoch > 0 && n > crowdOf {
				l.waker.crowd()
			}
			if leader && k.full && now.After(nextCall) {
				nextCall = now.Add(helpEvery)
				l.waker.callForHelp(ctx)
			}
		}
		calm := leader && epoch == 0 && stream.calm(now, n)
		switch {
		case k.behind && n == 0:
			// What commits late is for the next walk to find. Until the mark
			// has come along there is no sleep.
			l.sleep(ctx, begun.Add(dozing))
		case !exact:
		case leader && epoch == 0 && now.Sub(lastRow) < linger && !calm:
			// Events that come while we look would be had one by one, at
			// the price of a claim each: let some gather.
			l.sleep(ctx, begun.Add(restless))
		case leader && epoch == 0:
			l.goToSleep(ctx, k, &lastRow)
		default:
			// Asleep. The look began after the gate was seen open, so
			// whoever it could not see will notify.
			if _, now := l.waker.gate(); now == epoch {
				l.sleep(ctx, nextSweep)
			}
		}
	}
	return nil
}

// stream watches how many events come while the listener is awake.
type stream struct {
	since time.Time
	n     int
}

// calm notes n more events and reports, from time to time, whether so few came
// lately that it is better to sleep and be woken for each. Whether that makes
// commits wait shows when it is tried.
func (s *stream) calm(now time.Time, n int) bool {
	s.n += n
	d := now.Sub(s.since)
	if d < calmWithin {
		return false
	}
	few := d < 2*calmWithin && s.n < calmOf
	s.since, s.n = now, 0
	return few
}

// round looks once, sweeping first where it is time to.
func (l *Listener) round(ctx context.Context, k *looker, nextSweep *time.Time) (n int, exact bool, err error) {
	session := l.waker.session()
	if session != k.session || !time.Now().Before(*nextSweep) {
		// After a lost connection we may remember more of our claims
		// than the database does: start from its floor again.
		if err := l.sweep(ctx, session != k.session); err != nil {
			return 0, false, err
		}
		if err := k.sweepEvents(ctx, session != k.session); err != nil {
			return 0, false, err
		}
		k.session = session
		*nextSweep = l.nextSweep()
	}
	// With all hands full there is nothing to claim for, but sweeping goes
	// on: it is also the sign of life.
	room := l.awaitRoom(ctx, *nextSweep)
	if room == 0 {
		return 0, false, ctx.Err()
	}
	if due := l.nextDueAt(); !due.IsZero() && !time.Now().Before(due) {
		// At most half of the room, and of a single place every other one:
		// deliveries that come back again and again must not keep out what
		// is new.
		most := min(l.cfg.BatchSize, (room+1)/2)
		if k.dueLast = !k.dueLast; room == 1 && !k.dueLast {
			return l.lookOnce(ctx, k, room)
		}
		d, err := l.takeDue(ctx, most, nil)
		if err != nil {
			return 0, false, err
		}
		n += d
		if d < most {
			if err := l.sweep(ctx, false); err != nil {
				return n, false, err
			}
			l.putOffDue(d)
		}
		if room = l.awaitRoom(ctx, *nextSweep); room == 0 {
			return n, false, ctx.Err()
		}
	}
	m, exact, err := l.lookOnce(ctx, k, room)
	return n + m, exact, err
}

func (l *Listener) lookOnce(ctx context.Context, k *looker, room int) (n int, exact bool, err error) {
	return k.look(ctx, min(l.cfg.BatchSize, room), room, nil)
}

// roomSoon returns how much room there is for n once there is, within helpEvery; 0 where there is none, or
// where outcomes cannot be recorded, which it says after helpEvery more.
func (l *Listener) roomSoon(ctx context.Context, n int) (free int, failing bool) {
	slice, cancel := context.WithTimeout(ctx, helpEvery)
	free = l.queue.room(slice, n)
	cancel()
	if free > 0 && l.recorder.failing() {
		wait(ctx, helpEvery)
		return 0, true
	}
	return free, false
}

// awaitRoom waits until there is room for a batch and returns how much there
// is; 0 when ctx or the time until the next sweep ends first. While outcomes cannot be
// recorded there is none: what is ours but not on record must not be claimed
// again by ourselves, once the database is back and the lease is over.
//
// Whoever owns the gate and has no room keeps the others awake: with the gate
// shut nobody else tells them that there is something to do.
func (l *Listener) awaitRoom(ctx context.Context, until time.Time) int {
	for {
		l.relieve()
		free, failing := l.roomSoon(ctx, l.cfg.BatchSize)
		switch {
		case ctx.Err() != nil:
			return 0
		case free > 0:
			return free
		case !failing:
			if leader, epoch := l.waker.gate(); leader && epoch == 0 {
				l.waker.callForHelp(ctx)
			}
		}
		if !time.Now().Before(until) {
			return 0
		}
	}
}

// dueApart is how long it is at least from one time that due deliveries are asked for to the next where
// fewer came than were asked for: those that are due soon after each other are had together. Where one was due and
// could not be had, it is in somebody else's hands at this moment: then it is twice as long each time, up to dueAgain.
const (
	dueApart = 50 * time.Millisecond
	dueAgain = 250 * time.Millisecond
)

// putOffDue says when due deliveries are asked for again, of which got were claimed now.
func (l *Listener) putOffDue(got int) {
	l.dueMu.Lock()
	defer l.dueMu.Unlock()
	now := time.Now()
	if got > 0 || l.due.After(now) {
		l.dueWait = 0
	} else {
		l.dueWait = min(max(2*l.dueWait, dueApart), dueAgain)
	}
	if at := now.Add(max(l.dueWait, dueApart)); !l.made && !l.due.IsZero() && l.due.Before(at) {
		l.due = at
	}
}

// sleep waits for a wake-up, for the next delivery to be due, or for until.
func (l *Listener) sleep(ctx context.Context, until time.Time) {
	if due := l.nextDueAt(); !due.IsZero() && due.Before(until) {
		until = due
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.waker.C:
	case <-l.dueC:
	case <-timer.C:
	}
}

// goToSleep opens the gate: it waits for every transaction that inserted in
// silence, and looks for their events meanwhile. It returns when the gate is
// open, or when so many events came that there is no point.
func (l *Listener) goToSleep(ctx context.Context, k *looker, lastRow *time.Time) {
	answer := l.waker.openGate(ctx)
	delay := time.Millisecond
	for {
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case ok := <-answer:
			timer.Stop()
			if ok {
				return // the caller looks once more, exactly
			}
			answer = nil
		case <-timer.C:
			delay = min(2*delay, 25*time.Millisecond)
		}
		n := 0
		if room := l.awaitRoom(ctx, time.Now()); room > 0 {
			var err error
			if n, _, err = k.look(ctx, min(l.cfg.BatchSize, room), room, nil); err != nil {
				return // the caller meets it again and says so
			}
		}
		if n >= l.cfg.BatchSize || n > crowdOf {
			*lastRow = time.Now()
			return
		}
		if answer == nil {
			wait(ctx, delay) // a refusal that comes at once must not make us spin
			return
		}
	}
}
