package listener

import (
	"context"
	"sync"
	"sync/atomic"
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

	mu       sync.Mutex
	events   fifo[*event]
	giants   fifo[*event] // those whose payload stayed behind, to be read one by one
	loaded   int          // giants in memory: no more than there are workers
	bytes    int          // of payloads and contents that are held
	size     float64      // of what one keeps, in bytes, of late
	more     bool         // the last claim was full
	places   map[string]*destination
	open     openHeap                  // those that an attempt may begin at
	blocked  map[*destination]struct{} // those with work waiting and no room in their window
	plain    fifo[*job]                // deliveries that go nowhere: there is only an outcome to note
	held     int                       // claimed and not yet on record; but for later
	pace     pace
	roomy    time.Time    // when there was last room for a claim
	idle     int          // workers without work
	planning atomic.Int32 // workers that plan an event
	leisure  int          // the fewest idle workers since the last look of relax
	relaxer  *time.Timer  // looks again while something is blocked

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
		more := q.held < q.capacity()
		q.mu.Unlock()
		if more {
			signal(q.freed) // whoever waits for room waits for less now
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
	plans := int(q.planning.Load()) < q.planners()
	if plans && q.events.len() > 0 {
		e, _ := q.events.pop()
		q.planning.Add(1)
		return work{event: e}, true
	}
	if j, ok := q.plain.pop(); ok {
		return work{job: j}, true
	}
	if plans && q.loaded < q.workers {
		if e, ok := q.giants.pop(); ok {
			q.planning.Add(1)
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

// planners is how many workers may plan at once: where a table that a route looks into
// does not answer, some are left for deliveries.
func (q *queue) planners() int { return max(mostOf(q.workers), 1) }

// planEnded notes that a worker has planned an event, or will not.
func (q *queue) planEnded() {
	if int(q.planning.Add(-1)) == q.planners()-1 {
		signal(q.ready) // others may wait for that
	}
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
