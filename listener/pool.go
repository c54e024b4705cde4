package listener

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// work is what a worker takes: an event to plan, or a delivery to attempt.
type work struct {
	event *event
	job   *job
}

// queue holds what was claimed and not yet begun, oldest first. It counts
// everything from claim to record, so that claims never exceed what can be
// worked on soon.
type queue struct {
	capacity int

	mu    sync.Mutex
	items []work
	held  int // claimed and not yet on record
	ready chan struct{}
	freed chan struct{} // readable when held went down
}

func newQueue(capacity int) *queue {
	return &queue{capacity: capacity, ready: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

// room waits until n more may be claimed and returns how many may be, at
// least n unless ctx ends first.
func (q *queue) room(ctx context.Context, n int) int {
	for {
		q.mu.Lock()
		free := q.capacity - q.held
		q.mu.Unlock()
		if free >= n {
			signal(q.freed) // for whoever waits beside us
			return free
		}
		select {
		case <-ctx.Done():
			return 0
		case <-q.freed:
		}
	}
}

// claimed adds what a claim brought.
func (q *queue) claimed(items ...work) {
	q.mu.Lock()
	q.held += len(items)
	q.items = append(q.items, items...)
	q.mu.Unlock()
	signal(q.ready)
}

// push adds parts of what is counted already, to be taken next.
func (q *queue) push(items ...work) {
	q.mu.Lock()
	q.items = append(items, q.items...)
	q.mu.Unlock()
	signal(q.ready)
}

// settled notes that n of what was claimed are on record or given back.
func (q *queue) settled(n int) {
	q.mu.Lock()
	q.held -= n
	q.mu.Unlock()
	signal(q.freed)
}

func (q *queue) holds() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// pop waits for the next item; false when ctx ended.
func (q *queue) pop(ctx context.Context) (work, bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			w := q.items[0]
			q.items[0] = work{}
			q.items = q.items[1:]
			more := len(q.items) > 0
			q.mu.Unlock()
			if more {
				signal(q.ready) // pass it on: one signal may stand for many items
			}
			return w, true
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return work{}, false
		case <-q.ready:
		}
	}
}

// takeAll empties the queue.
func (q *queue) takeAll() []work {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.items
	q.items = nil
	return out
}

// worker takes items until ctx ends. It never returns an error: what goes
// wrong with one event is that event's outcome.
func (l *Listener) worker(ctx context.Context) error {
	for {
		w, ok := l.queue.pop(ctx)
		if !ok {
			return nil
		}
		if w.job != nil {
			l.attempt(ctx, w.job)
		} else {
			l.begin(ctx, w.event)
		}
	}
}

// begin plans e and attempts its first delivery; the others go to whoever is
// free.
func (l *Listener) begin(ctx context.Context, e *event) {
	if e.lost.Load() || e.lease.left() < margin(l.store.lease) {
		l.giveBack(ctx, e, "lease ran out before it was begun")
		return
	}
	jobs, err := l.plan(ctx, e)
	if err != nil {
		// Its lease runs out by itself: to have it back at once would be
		// to meet the same trouble again at once.
		l.sparse.warn("event not planned; it comes back when its lease has run out", err)
		l.forget(e)
		return
	}
	e.mu.Lock()
	e.jobs, e.left, e.begun = jobs, len(jobs), time.Now()
	e.mu.Unlock()
	if len(jobs) == 0 {
		l.recorder.add(entry{event: e})
		return
	}
	if len(jobs) > 1 {
		rest := make([]work, 0, len(jobs)-1)
		for _, j := range jobs[1:] {
			rest = append(rest, work{job: j})
		}
		l.queue.push(rest...)
	}
	l.attempt(ctx, jobs[0])
}

// giveBack lets go of an event that was not begun.
func (l *Listener) giveBack(ctx context.Context, e *event, why string) {
	if why != "" {
		l.log.Warn("event not begun", "event", e.ID, "reason", why)
	}
	if err := l.store.release(context.WithoutCancel(ctx), []*event{e}, nil); err != nil {
		l.sparse.warn("event not given back; its lease will run out", err)
	}
	l.forget(e)
}

// forget drops an event that is no longer ours, or no longer of interest.
func (l *Listener) forget(e *event) {
	if e.lease.dropEvent(e) {
		l.leases.remove(e.lease)
	}
	e.tally.lost()
	l.queue.settled(1)
}

// plan says which deliveries e still needs.
func (l *Listener) plan(ctx context.Context, e *event) ([]*job, error) {
	msgs, err := l.messages(ctx, e)
	if err != nil {
		return nil, err
	}
	var have []known
	if e.again {
		if have, err = l.store.adopt(ctx, e); err != nil {
			return nil, err
		}
	}
	var jobs []*job
	for _, m := range msgs {
		k := match(&have, e, &m)
		switch {
		case k == nil:
			jobs = append(jobs, e.newJob(m, 0))
		case k.state == dispatch.Delivered:
			// arrived already
		case k.state.Terminal():
			// the event was opened again: a new delivery, with an id of its own
			jobs = append(jobs, e.newJob(m, k.generation+1))
		default:
			jobs = append(jobs, e.resume(k, m))
		}
	}
	// Deliveries that the routes of today would not plan, but those of
	// yesterday began.
	for _, k := range have {
		if !k.state.Terminal() {
			jobs = append(jobs, e.resume(&k, dispatch.Message{Route: k.route, Step: k.step, Channel: k.channel, Content: k.content}))
		}
	}
	return jobs, nil
}

// messages plans e, bringing its payload first where that stayed behind.
func (l *Listener) messages(ctx context.Context, e *event) ([]dispatch.Message, error) {
	if e.Payload == nil {
		text, size, err := l.store.loadPayload(ctx, e.seq)
		if err != nil {
			return nil, err
		}
		e.Payload = text
		if text == nil {
			return refuse(fmt.Sprintf("payload of %d bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=%d", size, l.store.maxPayload)), nil
		}
	} else if len(e.Payload) > l.store.maxPayload {
		return refuse(fmt.Sprintf("payload of %d bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=%d", len(e.Payload), l.store.maxPayload)), nil
	}
	return l.cfg.Dispatcher.Plan(ctx, e.Event), nil
}

func refuse(why string) []dispatch.Message {
	return []dispatch.Message{{Refused: why}}
}

// match finds the newest delivery in have that m stands for and takes it, and
// its older generations, out of have. The tail of an id is the same wherever
// the event stands in the order.
func match(have *[]known, e *event, m *dispatch.Message) *known {
	var newest *known
	rest := (*have)[:0:0]
	for _, k := range *have {
		id := deliveryID(e.seq, e.ID, m, k.generation)
		if [10]byte(id[6:]) != [10]byte(k.id[6:]) {
			rest = append(rest, k)
			continue
		}
		if newest == nil || k.generation > newest.generation {
			newest = &k
		}
	}
	*have = rest
	return newest
}

func (e *event) newJob(m dispatch.Message, generation int) *job {
	return &job{
		Delivery: dispatch.Delivery{
			ID: deliveryID(e.seq, e.ID, &m, generation), EventID: e.ID, Type: e.Type, Date: e.CreatedAt, Message: m,
		},
		seq: e.seq, generation: generation, lease: e.lease, event: e,
	}
}

// resume goes on with a delivery that the ledger has: with the bytes that it
// was frozen with.
func (e *event) resume(k *known, m dispatch.Message) *job {
	j := e.newJob(m, k.generation)
	j.ID = k.id
	j.known, j.state, j.attempts = true, k.state, k.attempts
	if k.content != nil {
		j.Content = k.content
		j.Skip, j.Refused = "", ""
	}
	return j
}

// errCrashed is the cause of an attempt whose sender never came back.
var errCrashed = errors.New("the listener that was sending it stopped before it knew the outcome")

// attempt makes one attempt at j and passes on what came of it.
func (l *Listener) attempt(ctx context.Context, j *job) {
	limit := l.cfg.MaxAttempts
	policy := l.cfg.Dispatcher.Policy(j.Channel)
	switch {
	case j.Skip != "":
		l.finish(j, dispatch.Outcome{State: dispatch.Skipped, Reason: j.Skip, Attempts: j.attempts})
		return
	case j.Refused != "":
		l.finish(j, dispatch.Outcome{State: dispatch.Dead, Reason: j.Refused, Attempts: j.attempts})
		return
	case j.state.Terminal() || j.state == dispatch.Held:
		// A person gave it this state and made it due, so that it is settled.
		l.finish(j, dispatch.Outcome{State: j.state, Reason: j.lastError, Attempts: j.attempts})
		return
	case j.state == dispatch.Sending:
		j.Attempt = j.attempts
		o := dispatch.Decide(policy, j.attempts, limit, dispatch.Receipt{},
			&dispatch.Error{Channel: j.Channel, Kind: dispatch.Unknown, Err: errCrashed})
		if o.State != dispatch.Uncertain {
			l.finish(j, o)
			return
		}
	}
	if !l.cfg.Dispatcher.Configured(j.Channel) {
		l.finish(j, dispatch.Outcome{State: dispatch.Skipped, Reason: fmt.Sprintf("%s not configured", j.Channel), Attempts: j.attempts})
		return
	}
	// While outcomes cannot be written, nothing new is begun.
	for l.recorder.failing.Load() && ctx.Err() == nil {
		wait(ctx, 20*time.Millisecond)
	}
	if ctx.Err() != nil || l.lost(j) {
		l.handBack(j)
		return
	}
	j.Attempt = j.attempts + 1
	if policy.Announce {
		j.announced = true
		if !l.announcer.announce(ctx, j) {
			l.handBack(j)
			return
		}
	}
	j.setBegun()
	if l.lost(j) || ctx.Err() != nil {
		// Announced, and nothing left: the next one may have it uncounted.
		l.handBack(j)
		return
	}
	begun := time.Now()
	r, err := l.cfg.Dispatcher.Send(ctx, &j.Delivery)
	j.took = time.Since(begun)
	if err != nil && ctx.Err() != nil && err.Kind != dispatch.Unknown {
		// Cut short by the shutdown, and nothing was taken: not an attempt.
		l.handBack(j)
		return
	}
	if p := panicOf(err); p != nil {
		l.log.Error("sender panicked", "channel", j.Channel, "delivery", j.ID, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
	l.finish(j, dispatch.Decide(policy, j.Attempt, limit, r, err))
}

// panicOf returns the panic that err stands for, or nil.
func panicOf(err *dispatch.Error) *dispatch.PanicError {
	if err == nil {
		return nil
	}
	p, _ := errors.AsType[*dispatch.PanicError](err.Err)
	return p
}

// lost reports whether j must not be begun any more.
func (l *Listener) lost(j *job) bool {
	return j.lost.Load() || j.event != nil && j.event.lost.Load() || j.lease.left() < margin(l.store.lease)
}

func (j *job) setBegun() {
	if j.event == nil {
		j.begun = true
		return
	}
	j.event.mu.Lock()
	defer j.event.mu.Unlock()
	j.begun = true
}

// handBack ends j without an attempt: it is due at once, for anybody.
func (l *Listener) handBack(j *job) {
	l.finish(j, dispatch.Outcome{State: dispatch.Ready, Attempts: j.attempts})
}

// finish notes the outcome of j and has it recorded: with its event, once
// that has all of them, or by itself where it is on its own.
func (l *Listener) finish(j *job, o dispatch.Outcome) {
	if !o.State.Terminal() && o.State != dispatch.Held {
		j.wait = 0
		if o.State != dispatch.Ready {
			j.wait = backoff(o.Attempts, o.MinWait)
		}
	}
	e := j.event
	if e == nil {
		j.outcome = &o
		logAttempt(l.log, j)
		l.recorder.add(entry{job: j})
		return
	}
	e.mu.Lock()
	j.outcome = &o
	last, parked := false, e.parked
	if !parked {
		e.left--
		last = e.left == 0
	}
	e.mu.Unlock()
	logAttempt(l.log, j)
	switch {
	case parked:
		l.recorder.add(entry{job: j})
	case last:
		if e.untouched() {
			l.giveBack(context.Background(), e, "")
			return
		}
		l.recorder.add(entry{event: e, rows: e.rows(l.store.lease)})
	}
}

// untouched reports whether nothing at all came of e, so that the ledger need
// not hear of it.
func (e *event) untouched() bool {
	for _, j := range e.jobs {
		if j.known || j.announced || j.outcome.State != dispatch.Ready {
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
	e.parked = true
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
	if len(en.open) > 0 {
		e.lease.park(e, en.open)
		return
	}
	if e.lease.dropEvent(e) {
		l.leases.remove(e.lease)
	}
	l.settle(e.tally, e.jobs, kept)
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
		l.settle(j.tally, []*job{j}, kept)
		return
	}
	e.mu.Lock()
	e.left--
	last := e.left == 0
	e.mu.Unlock()
	if last {
		l.settle(e.tally, e.jobs, kept)
	}
}

// settle counts what is over.
func (l *Listener) settle(t *tally, jobs []*job, kept bool) {
	if kept {
		c := classify(jobs)
		l.batch.add(c)
		t.done(c)
	} else {
		t.lost()
	}
	l.queue.settled(1)
	l.batch.flush(l.queue.holds() == 0)
}
