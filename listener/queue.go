package listener

import (
	"container/heap"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// work is what a worker takes: an event to plan, or a delivery to attempt.
type work struct {
	event *event
	job   *job
}

// queue holds what was claimed and not yet begun, and says what is next: events
// are planned as they come, oldest first, and their deliveries wait by
// destination, so that none of them takes the hands of all others. It counts
// everything from claim to record, so that claims never exceed what can be
// worked on soon.
type queue struct {
	workers int
	batch   int // most events of one claim

	mu      sync.Mutex
	events  fifo[*event]
	giants  fifo[*event] // those whose payload stayed behind, to be read one by one
	loaded  int          // giants in memory: no more than there are workers
	bytes   int          // of payloads and contents that are held
	size    float64      // of what one keeps, in bytes, of late
	more    bool         // the last claim was full
	places  map[string]*destination
	open    openHeap                  // those that an attempt may begin at
	blocked map[*destination]struct{} // those with work waiting and no room in their window
	plain   fifo[*job]                // deliveries that go nowhere: there is only an outcome to note
	held    int                       // claimed and not yet on record; but for later
	pace    pace
	idle    int         // workers without work
	leisure int         // the fewest idle workers since the last look of relax
	relaxer *time.Timer // looks again while something is blocked

	later      map[*event]*time.Timer // to be planned again after a while; see postpone
	laterBytes int                    // of their payloads
	stopped    bool                   // it was emptied

	ready chan struct{}
	short chan struct{} // readable when something waits for slots of a rate
	freed chan struct{} // readable when held went down
}

func newQueue(workers, batch int) *queue {
	q := &queue{
		workers: workers, batch: batch,
		places: map[string]*destination{}, blocked: map[*destination]struct{}{},
		ready: make(chan struct{}, 1), short: make(chan struct{}, 1), freed: make(chan struct{}, 1), later: map[*event]*time.Timer{},
	}
	q.relaxer = time.AfterFunc(time.Hour, q.relax)
	q.relaxer.Stop()
	return q
}

// capacity is how much may be held: what the workers have in hand, two claims,
// and what is read ahead.
func (q *queue) capacity() int { return q.workers + 2*q.batch + q.ahead() }

// ahead is what will be done while claims are on their way, as far as the
// memory for it goes: by what one kept of late, or keeps now if that is more.
func (q *queue) ahead() int {
	now := float64(q.bytes) / float64(max(q.held, 1))
	return min(q.pace.ahead(), int(aheadBytes/max(q.size, now, 1)))
}

const aheadBytes = 16 << 20

// room waits until n more may be claimed and returns how many may be, at
// least n unless ctx ends first. Under load it waits for more than n, so that
// there are fewer and larger claims. Where a worker has nothing to do because what
// is held must not begin yet, it does not wait for n: one is enough.
func (q *queue) room(ctx context.Context, n int) int {
	for {
		q.mu.Lock()
		free := q.capacity() - q.held
		n := max(n, q.ahead()/2) // what is held lasts meanwhile
		starved := q.idle > 0 && free > 0 && len(q.blocked) > 0
		q.mu.Unlock()
		if free >= n || starved {
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

// claimed adds events that a claim brought.
func (q *queue) claimed(events []*event) {
	q.mu.Lock()
	for _, e := range events {
		q.add(e)
	}
	q.mu.Unlock()
	signal(q.ready)
}

// add has e held, and wait to be planned.
func (q *queue) add(e *event) {
	q.held++
	if e.Payload == nil {
		q.giants.push(e)
	} else {
		q.events.push(e)
		q.keep(&e.load, len(e.Payload))
	}
}

// release has what kept l held no more.
func (q *queue) release(l *load) {
	q.held--
	q.keep(l, 0)
	if l.giant {
		l.giant = false
		q.loaded--
		signal(q.ready)
	}
}

// claimedJobs adds deliveries that a claim brought.
func (q *queue) claimedJobs(jobs []*job) {
	q.mu.Lock()
	q.held += len(jobs)
	for _, j := range jobs {
		q.await(j)
		q.keep(&j.load, len(j.Content))
		q.weigh(len(j.Content))
	}
	q.mu.Unlock()
	signal(q.ready)
}

// weigh notes what one keeps.
func (q *queue) weigh(bytes int) { q.size += (float64(bytes) - q.size) / 64 }

// keep notes how much l is from here on.
func (q *queue) keep(l *load, bytes int) {
	q.bytes += bytes - l.bytes
	l.bytes = bytes
}

// contents is how many bytes of content jobs keep; such as have the same text
// in common keep it once.
func contents(jobs []*job) (n int) {
	var last json.RawMessage
	for _, j := range jobs {
		if c := j.Content; len(c) > 0 && (len(last) == 0 || &c[0] != &last[0]) {
			n += len(c)
			last = c
		}
	}
	return n
}

// unfold notes that e keeps the contents of jobs from here on, in place of its
// payload.
func (q *queue) unfold(e *event, jobs []*job) {
	n := contents(jobs)
	q.keep(&e.load, n)
	q.weigh(n)
}

// planned adds jobs, the deliveries of e, which is counted already. It returns
// the first of them where that may begin at once; its worker then does it.
func (q *queue) planned(e *event, jobs []*job) *job {
	q.mu.Lock()
	q.unfold(e, jobs)
	var first *job
	if j := jobs[0]; len(q.open) == 0 && q.begin(j) {
		first, jobs = j, jobs[1:]
	}
	for _, j := range jobs {
		q.await(j)
	}
	q.mu.Unlock()
	if len(jobs) > 0 {
		signal(q.ready)
	}
	return first
}

// launch adds deliveries of an event that is counted already and on record.
func (q *queue) launch(e *event, jobs []*job) {
	q.mu.Lock()
	q.unfold(e, jobs)
	for _, j := range jobs {
		q.await(j)
	}
	q.mu.Unlock()
	signal(q.ready)
}

// begin takes a place in the window of j's destination, if there is one.
func (q *queue) begin(j *job) bool {
	if j.destination == "" {
		return true
	}
	d := q.at(j)
	if !d.free() || len(d.waiting) > 0 {
		return false
	}
	d.begin(j, time.Now())
	return true
}

// most is how many destinations are remembered that have nothing to do.
const most = 1000

// at returns the destination of j.
func (q *queue) at(j *job) *destination {
	d := q.places[j.destination]
	if d == nil {
		if len(q.places) >= most {
			for name, old := range q.places {
				if old.flying+len(old.waiting) == 0 {
					delete(q.places, name)
				}
			}
		}
		limit := mostOf(q.workers)
		if j.concurrency > 0 {
			limit = min(limit, j.concurrency)
		}
		d = newDestination(limit)
		d.name = j.destination
		if j.rate.Count > 0 {
			d.meter = &meter{rate: j.rate}
		}
		q.places[j.destination] = d
	}
	return d
}

// await has j wait for its turn.
func (q *queue) await(j *job) {
	if j.destination == "" {
		q.plain.push(j)
		return
	}
	d := q.at(j)
	d.waiting = append(d.waiting, j)
	q.rank(d)
}

// rank puts d where it belongs after a change.
func (q *queue) rank(d *destination) {
	switch {
	case len(d.waiting) > 0 && d.free():
		delete(q.blocked, d)
		if d.place >= 0 {
			heap.Fix(&q.open, d.place)
		} else {
			heap.Push(&q.open, d)
		}
		return
	case len(d.waiting) > 0:
		if len(q.blocked) == 0 {
			q.leisure = q.idle
			q.relaxer.Reset(relaxEvery)
		}
		q.blocked[d] = struct{}{}
		if d.meter != nil {
			signal(q.short)
		}
	default:
		delete(q.blocked, d)
	}
	if d.place >= 0 {
		heap.Remove(&q.open, d.place)
	}
}

// relaxEvery is how often windows are widened for hands that stay idle.
const relaxEvery = 100 * time.Millisecond

// relax widens the windows that hold work back where that is promising, by as
// much as there were hands idle all the time since the last look: what nobody
// else wanted.
func (q *queue) relax() {
	q.mu.Lock()
	defer q.mu.Unlock()
	spare := q.leisure - keptOf(q.workers)
	for d := range q.blocked {
		if spare <= 0 {
			break
		}
		if d.window < d.limit && d.promising(time.Now()) {
			d.window++
			spare--
			q.rank(d)
			signal(q.ready)
		}
	}
	q.leisure = q.idle
	if len(q.blocked) > 0 {
		q.relaxer.Reset(relaxEvery)
	}
}

// left notes that the attempt at j is over, and what it says about where it
// went.
func (q *queue) left(j *job, v verdict) {
	if j.destination == "" {
		return
	}
	q.mu.Lock()
	d := q.at(j)
	if j.flying {
		d.end(j)
		switch v {
		case answered:
			d.answered(time.Now())
		case unanswered:
			d.failed(j, time.Now())
		}
		q.rank(d)
	}
	q.mu.Unlock()
}

// recently is how long after its last attempt a destination still counts as
// one that others would be in the way of.
const recently = 5 * time.Second

// overflow takes out what waits for slow destinations where it would keep
// others waiting: when a destination that does not answer has a good part of
// everything that may be held, or the memory that giants wait for. Where no other
// destination was used of late it may be that all events go there: then it is done
// only while there is no answer at all and more may wait than there is room for,
// once a second, and for longer. It returns nothing that somebody waits for.
func (q *queue) overflow() (out []putOff) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.blocked) == 0 {
		return nil
	}
	now := time.Now()
	for d := range q.blocked {
		crowds := len(d.waiting) > q.capacity()/8
		stuck := q.giants.len() > 0 && q.loaded >= q.workers && slices.ContainsFunc(d.waiting, ofGiant)
		if !crowds && !stuck || !d.slow(now) {
			continue
		}
		limit := lastPutOff
		if !q.others(d, now) {
			limit = longPutOff
			if now.Sub(d.heard) < silence || now.Sub(d.relieved) < relieveEvery || !q.more && q.held < q.capacity() && !stuck {
				continue
			}
		}
		kept := d.waiting[:0:0]
		for _, j := range d.waiting {
			if j.awaited() {
				kept = append(kept, j)
				continue
			}
			if d.relieved != now {
				d.relieved = now
				limit = d.nextPutOff(limit)
			}
			out = append(out, putOff{j, jittered(limit)})
		}
		d.waiting = kept
		q.rank(d)
	}
	return out
}

// looked notes whether the last claim was full, so that more may wait.
func (q *queue) looked(full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.more = full
}

// putOff is a delivery that leaves the queue for a while.
type putOff struct {
	job  *job
	wait time.Duration
}

// others reports whether any destination but d was used of late.
func (q *queue) others(d *destination, now time.Time) bool {
	for _, o := range q.places {
		if o != d && now.Sub(o.used) < recently {
			return true
		}
	}
	return false
}

// ofGiant reports whether j keeps a giant in memory.
func ofGiant(j *job) bool { return j.event != nil && j.event.load.giant }

// settled notes that one of what was claimed is on record or given back, what
// it kept, and whether anything was done for it.
func (q *queue) settled(l *load, worked bool) {
	q.mu.Lock()
	q.release(l)
	if worked {
		q.pace.done(1)
	}
	q.mu.Unlock()
	signal(q.freed)
}

func (q *queue) holds() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// leased is what is held, and what comes back later.
func (q *queue) leased() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held + len(q.later)
}

// pop waits for the next item; false when ctx ended. After the attempt at a
// delivery left must be called.
func (q *queue) pop(ctx context.Context) (work, bool) {
	for {
		q.mu.Lock()
		w, ok := q.next()
		if ok {
			more := q.events.len()+q.plain.len()+len(q.open) > 0 || q.giants.len() > 0 && q.loaded < q.workers
			q.mu.Unlock()
			if more {
				signal(q.ready) // pass it on: one signal may stand for many items
			}
			return w, true
		}
		q.idle++
		starved := len(q.blocked) > 0
		q.mu.Unlock()
		if starved {
			signal(q.freed)
		}
		var ended bool
		select {
		case <-ctx.Done():
			ended = true
		case <-q.ready:
		}
		q.mu.Lock()
		q.idle--
		q.leisure = min(q.leisure, q.idle)
		q.mu.Unlock()
		if ended {
			return work{}, false
		}
	}
}

// next takes the next item: what has to be planned first, since the deliveries
// that are ready are chosen among better the more is known.
func (q *queue) next() (work, bool) {
	if e, ok := q.events.pop(); ok {
		return work{event: e}, true
	}
	if j, ok := q.plain.pop(); ok {
		return work{job: j}, true
	}
	if q.loaded < q.workers {
		if e, ok := q.giants.pop(); ok {
			q.loaded++
			e.load.giant = true
			return work{event: e}, true
		}
	}
	for len(q.open) > 0 && !q.open[0].free() {
		q.rank(q.open[0]) // its slots ran out
	}
	if len(q.open) == 0 {
		return work{}, false
	}
	d := q.open[0]
	j := d.waiting[0]
	d.waiting[0] = nil
	d.waiting = d.waiting[1:]
	d.begin(j, time.Now())
	q.rank(d)
	return work{job: j}, true
}

// takeAll empties the queue. From then on nothing comes back later.
func (q *queue) takeAll() (events []*event, jobs []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for e := range q.later {
		q.takeLater(e)
		q.add(e)
	}
	q.relaxer.Stop()
	events, jobs = append(q.events.takeAll(), q.giants.takeAll()...), q.plain.takeAll()
	for _, d := range q.places {
		jobs = append(jobs, d.waiting...)
		d.waiting = nil
		q.rank(d)
	}
	return events, jobs
}

// fifo is a first-in first-out list.
type fifo[T any] struct{ items []T }

func (f *fifo[T]) len() int           { return len(f.items) }
func (f *fifo[T]) push(items ...T)    { f.items = append(f.items, items...) }
func (f *fifo[T]) takeAll() (all []T) { all, f.items = f.items, nil; return all }

func (f *fifo[T]) pop() (first T, ok bool) {
	if len(f.items) == 0 {
		return first, false
	}
	var zero T
	first, f.items[0] = f.items[0], zero
	if f.items = f.items[1:]; len(f.items) == 0 {
		f.items = nil
	}
	return first, true
}
