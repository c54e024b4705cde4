package listener

import (
	"container/heap"
	"time"
)

// begin takes a place in the window of j's destination, if there is one.
func (q *queue) begin(j *job) bool {
	if j.destination == "" {
		return true
	}
	if q.stopped {
		return false
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
	// Once the listener is to stop nothing waits for a place or for slots: it is given back.
	if j.destination == "" || q.stopped {
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
