package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// errCrashed is the cause of an attempt whose sender never came back.
var errCrashed = errors.New("the listener that was sending it stopped before it knew the outcome")

// errUnclear is that of one whose outcome was unknown already.
var errUnclear = errors.New("no clear answer came")

// attempt makes one attempt at j, passes on what came of it, and says what
// that tells about the destination.
func (l *Listener) attempt(ctx context.Context, j *job) verdict {
	limit, policy := l.limit(j), l.policy(j)
	if end := j.terms().Deadline; !end.IsZero() && !l.cfg.Clock.Now().Before(end) {
		j.expired = true // while it waited in memory, which the ledger cannot tell
	}
	o, settled := j.settled()
	switch {
	case j.proven():
		l.finish(j, dispatch.Outcome{State: dispatch.Delivered, Reason: "no clear answer came, and the provider has it",
			Receipt: dispatch.Receipt{ProviderID: j.found}, Attempts: j.attempts})
		return nothing
	case j.expired && (!j.unclear(policy) || policy.OnUnknown == dispatch.Resend) && !j.state.Terminal() && j.state != dispatch.Held:
		o := dispatch.Outcome{State: dispatch.Expired, Reason: "its deadline passed first", Attempts: j.attempts}
		if j.state == dispatch.Sending || j.state == dispatch.Uncertain {
			o.Reason += "; it may have arrived before"
		}
		l.finish(j, o)
		return nothing
	case settled:
		l.finish(j, o)
		return nothing
	case j.state.Terminal() || j.state == dispatch.Held:
		// A person gave it this state and made it due, so that it is settled.
		l.finish(j, dispatch.Outcome{State: j.state, Reason: j.lastError, Attempts: j.attempts})
		return nothing
	case l.holdsBack(j), j.provider != "" && l.braked(ctx, j):
		return nothing
	case !l.cfg.Dispatcher.Configured(j.Channel) && j.attempts == 0:
		l.finish(j, dispatch.Outcome{State: dispatch.Skipped, Reason: fmt.Sprintf("%s not configured", j.Channel)})
		return nothing
	case !l.cfg.Dispatcher.Configured(j.Channel):
		// It was tried before, and may have arrived.
		l.finish(j, dispatch.Outcome{State: dispatch.Held, Reason: fmt.Sprintf("%s not configured any more", j.Channel), Attempts: j.attempts})
		return nothing
	case j.unclear(policy):
		j.Attempt = j.attempts
		if policy.OnUnknown == dispatch.Reconcile {
			return l.look(ctx, j)
		}
		if o := dispatch.Decide(policy, j.attempts, limit, dispatch.Receipt{}, j.unknown()); o.State != dispatch.Uncertain {
			l.finish(j, o)
			return nothing
		}
	}
	if !l.mayBegin(ctx, j) {
		return nothing
	}
	if j.standsIn() && !l.called(ctx, j) {
		return nothing
	}
	if j.empty() && !l.refill(ctx, j) {
		return nothing
	}
	if j.waiting() && !l.render(ctx, j) {
		return nothing
	}
	if j.provider == "" && policy.Provider { // its content was not known before
		j.provider = l.cfg.Dispatcher.Destination(&j.Delivery)
		if l.cfg.Rates[j.Channel].Count > 0 && j.Content != nil { // now it can wait its turn
			l.handBack(j)
			return nothing
		}
		if l.braked(ctx, j) {
			return nothing
		}
	}
	j.Attempt = j.attempts + 1
	if j.Channel == dispatch.ChannelSQL {
		return l.runSQL(ctx, j)
	}
	send, held := l.cfg.Redirect.Apply(&j.Delivery)
	if held != "" {
		j.withheld = true
		l.finish(j, dispatch.Outcome{State: dispatch.Held, Reason: held, Attempts: j.attempts})
		return nothing
	}
	j.redirected = send != &j.Delivery
	send.Once = policy.OnUnknown != dispatch.Resend
	if !l.withinLimits(ctx, j, send) {
		return nothing
	}
	if policy.Announce {
		if alike, ok := l.cfg.Dispatcher.Likeness(send); ok {
			j.likeness = &alike
		}
		if !j.announces(true) {
			l.unsent(j)
			return nothing
		}
		switch l.announcer.announce(ctx, j) {
		case refused:
			// Withdrawn, or somebody else's by now: the ledger need
			// not hear of what it does not know.
			j.announces(false)
			l.unsent(j)
			return nothing
		case unclear:
			l.unsent(j)
			return nothing
		}
		failpoint.Hit("K5")
	}
	j.set(&j.begun, true)
	if l.barred(j) || ctx.Err() != nil {
		// Announced, and nothing left: the next one may have it uncounted.
		l.unsent(j)
		return nothing
	}
	begun := time.Now()
	if policy.Provider { // to get through to it may take longer than the lease lasts
		ctx = dispatch.WithOurs(ctx, func() bool { return !l.barred(j) })
	}
	r, err := l.cfg.Dispatcher.Send(ctx, send)
	j.took = time.Since(begun)
	failpoint.Hit("K9")
	if err != nil && errors.Is(err.Err, dispatch.ErrLate) {
		l.unsent(j)
		return nothing
	}
	if err != nil && ctx.Err() != nil && err.Kind != dispatch.Unknown {
		// Cut short by the shutdown, and nothing was taken: not an attempt.
		if err.RetryAfter > 0 {
			l.heed(j, begun, err)
		}
		l.unsent(j)
		return nothing
	}
	l.logPanic(j, err)
	v := l.heed(j, begun, err)
	l.finish(j, dispatch.Decide(policy, j.Attempt, limit, r, err))
	return v
}

// mayBegin reports whether something may be begun for j; where not, j has been given back
// or put off. While outcomes cannot be
// written nothing is: it waits for that. Nor is anything once the listener is to stop: what
// had to wait would be begun in the last moments of the grace period, and be cut off at its end.
func (l *Listener) mayBegin(ctx context.Context, j *job) bool {
	for l.recorder.failing() && ctx.Err() == nil {
		wait(ctx, 20*time.Millisecond)
	}
	if ctx.Err() != nil || l.stopping.Load() || l.lost(j) {
		l.handBack(j)
		return false
	}
	return !j.heeds() || !l.braked(ctx, j) // which it may have become meanwhile
}

// heeds reports whether a brake at its provider keeps j back: not what has none, nor what
// is to find out whether there is one still.
func (j *job) heeds() bool { return j.provider != "" && !j.probe }

// unclear reports whether it is to be settled, before anything else is done, what
// became of an attempt at j. What is uncertain and may be sent again under the same
// id needs no settling.
func (j *job) unclear(p dispatch.Policy) bool {
	return j.state == dispatch.Sending || j.state == dispatch.Uncertain && p.OnUnknown != dispatch.Resend
}

// proven reports whether the provider is known to have j, though no attempt at it is on
// record as taken: it reported it, or was found to have it before a crash.
func (j *job) proven() bool {
	return j.found != "" && j.attempts > 0 && !j.state.Terminal() && j.state != dispatch.Held
}

// unknown is the failure of the last attempt at j, as far as it is known.
func (j *job) unknown() *dispatch.Error {
	e := &dispatch.Error{Channel: j.Channel, Kind: dispatch.Unknown, Err: errUnclear}
	if j.state == dispatch.Sending {
		e.Err = errCrashed
	}
	return e
}

// limit is how often j may be attempted.
func (l *Listener) limit(j *job) int {
	if n := j.terms().Retry.Attempts; n > 0 {
		return n
	}
	return l.cfg.MaxAttempts
}

// policy is that of j's channel, with what its route says instead. What may be
// superseded is announced, so that it is canceled or sent, and never both; and so
// is what must not simply be sent again, so that a crash leaves a trace.
func (l *Listener) policy(j *job) dispatch.Policy {
	p, t := l.cfg.Dispatcher.Policy(j.Channel), j.terms()
	if t.Retry.OnUnknown != "" {
		p.OnUnknown = t.Retry.OnUnknown
	}
	if t.Retry.IfNotFound != "" {
		p.IfNotFound = t.Retry.IfNotFound
		if t.Retry.OnUnknown == "" { // what was not found was looked for
			p.OnUnknown = dispatch.Reconcile
		}
	}
	if p.OnUnknown == "" {
		p.OnUnknown = dispatch.Resend
	}
	if p.OnUnknown == dispatch.Reconcile && !l.cfg.Dispatcher.Reconcilable(j.Channel) {
		p.OnUnknown = dispatch.Hold
	}
	p.Announce = p.Announce || t.Supersedes != "" || p.OnUnknown != dispatch.Resend
	return p
}

// panicOf returns the panic that err stands for, or nil.
func panicOf(err *dispatch.Error) *dispatch.PanicError {
	if err == nil {
		return nil
	}
	p, _ := errors.AsType[*dispatch.PanicError](err.Err)
	return p
}

// logPanic logs that the sender of j panicked, where that is what err is.
func (l *Listener) logPanic(j *job, err *dispatch.Error) {
	if p := panicOf(err); p != nil {
		l.log.Error("sender panicked", "channel", j.Channel, "delivery", j.ID, "panic", dispatch.MaskText(fmt.Sprint(p.Value)), "stack", string(p.Stack))
	}
}

// lost reports whether j must not be begun any more.
func (l *Listener) lost(j *job) bool {
	return j.leaseLeft() < margin(l.store.ttl())
}

// barred reports whether the first byte of j must not leave any more: what came since its attempt began
// may have taken long, and another may have heard meanwhile that nothing is to be sent there.
func (l *Listener) barred(j *job) bool {
	return l.lost(j) || j.heeds() && l.brakes.has(j.provider)
}

// set changes one of the marks of j, which parking reads.
func (j *job) set(mark *bool, to bool) {
	if j.event != nil {
		j.event.mu.Lock()
		defer j.event.mu.Unlock()
	}
	*mark = to
}

// announces marks j as announced, or as not any more, unless its event is being parked: then the
// ledger is about to have j as it stood before that, and would have it so after an announcement;
// and what parking has taken along as announced is so. Whoever takes it next finds its row.
func (j *job) announces(to bool) bool {
	if e := j.event; e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.parking {
			return false
		}
	}
	j.announced = to
	return true
}

// handBack ends j without an attempt: it is due at once, for anybody.
func (l *Listener) handBack(j *job) { l.finish(j, j.notBegun(0)) }

// notBegun is the outcome of j where no attempt was made now; it is due again
// after wait. One that was taken over as being sent stays so, and one that is
// uncertain too: whether it arrived is not known any better.
func (j *job) notBegun(wait time.Duration) dispatch.Outcome {
	j.idle = true
	o := dispatch.Outcome{State: dispatch.Ready, Attempts: j.attempts, MinWait: wait}
	switch j.state {
	case dispatch.Sending:
		o.State = dispatch.Sending
	case dispatch.Uncertain:
		o.State, o.Reason = dispatch.Uncertain, j.lastError
	}
	return o
}

// finish notes the outcome of j and has it recorded: with its event, once
// that has all of them, or by itself where it is on its own.
func (l *Listener) finish(j *job, o dispatch.Outcome) {
	if !o.State.Terminal() && o.State != dispatch.Held {
		j.wait = o.MinWait
		asked := o.State == dispatch.Uncertain && l.policy(j).OnUnknown == dispatch.Reconcile
		if !j.idle && !asked {
			j.wait = backoff(o.Attempts, o.MinWait, j.terms().Retry)
		}
	}
	e := j.event
	if e == nil {
		j.ended(o)
		defer l.recordAlone(j) // whatever becomes of the log
		logAttempt(l.log, j)
		return
	}
	e.mu.Lock()
	j.comesTo(o)
	last, parked, wait, fenced := false, e.parked, e.parking, e.fenced
	switch {
	case !parked:
		e.left--
		last = e.left == 0
	case wait: // its row is not in the ledger yet
		e.after = append(e.after, j)
	}
	e.mu.Unlock()
	switch {
	case wait:
	case fenced:
		defer l.recorded(entry{job: j}, false)
	case parked:
		defer l.recordAlone(j)
	case last:
		defer l.handOver(e)
	}
	logAttempt(l.log, j)
}

// recordAlone has the outcome of j recorded by itself.
func (l *Listener) recordAlone(j *job) {
	j.recording.Store(true)
	l.recorder.add(entry{job: j})
}

// ended notes the outcome of j, which is on its own.
func (j *job) ended(o dispatch.Outcome) {
	j.lease.mu.Lock() // see leftoverJob
	defer j.lease.mu.Unlock()
	j.comesTo(o)
}

// comesTo notes the outcome of j. The first stands in j itself.
func (j *job) comesTo(o dispatch.Outcome) {
	if j.first.State == "" {
		j.first = o
		j.outcome = &j.first
		return
	}
	again := o
	j.outcome = &again
}

// handOver has the outcomes of e recorded, which are complete.
func (l *Listener) handOver(e *event) {
	if e.untouched() {
		l.giveBack(context.Background(), e, "")
		return
	}
	l.recordWhole(e)
}

// recordWhole has the outcome of all of e recorded.
func (l *Listener) recordWhole(e *event) {
	en := entry{event: e, rows: e.rows(l.store.ttl())}
	e.hand()
	l.recorder.add(en)
}

// hand notes that all of e is with the recorder, or given back.
func (e *event) hand() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handed = true
}

// untouched reports whether nothing at all came of e, so that the ledger need
// not hear of it.
func (e *event) untouched() bool {
	for _, j := range e.jobs {
		if j.known || j.announced || j.outcome.State != dispatch.Ready || j.wait > 0 {
			return false
		}
	}
	return true
}

func (e *event) rows(ttl time.Duration) []row {
	rows := make([]row, 0, len(e.jobs))
	for _, j := range e.jobs {
		rows = append(rows, j.ledgerRow(ttl))
	}
	return rows
}
