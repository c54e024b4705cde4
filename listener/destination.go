package listener

import (
	"math/rand/v2"
	"time"
)

// destination is one place that deliveries go to: what may be slow, or down,
// while others are not. Its window is how many attempts may be under way there
// at once, found as TCP finds its own: it begins small, grows with each answer
// while work waits for it, and is halved by each attempt that ended without
// one. So a place that hangs holds as many hands as it was worth while it
// answered, and no more. Hands that are idle widen it too, but only where attempts
// are known to end.
//
// Guarded by the mutex of its queue.
type destination struct {
	name    string
	meter   *meter // nil where no rate is set
	limit   int    // most attempts at once, whatever is free
	window  int
	flying  int  // attempts under way
	oldest  *job // the first of them; the others follow by job.later
	newest  *job
	waiting []*job
	place   int // in queue.open; -1 while it is not there

	putOff   time.Duration // the last wait of what was put off; 0 while it keeps up
	relieved time.Time     // when something was last put off
	used     time.Time     // when an attempt last began
	heard    time.Time     // when one was last answered
	returns  bool          // the last attempt that ended was answered, or at least not overdue
}

const (
	firstWindow = 1
	overdue     = time.Second      // an attempt that takes longer makes its destination slow
	firstPutOff = time.Second      // the wait of what a slow destination is put off for; it doubles
	lastPutOff  = 30 * time.Second // up to here
	longPutOff  = 5 * time.Minute  // or to here, where nothing else is known to wait

	relieveEvery = time.Second
	silence      = 5 * time.Second // without any answer, where nothing else is known to wait
)

// keptOf is how many of the workers are kept for other destinations than the
// one that has the most: an eighth of them, and at least one where there are two
// or more, so that a place that hangs never holds the last hand.
func keptOf(workers int) int {
	if workers < 2 {
		return 0
	}
	return max(workers/8, 1)
}

// mostOf is how many of the workers one destination may have.
func mostOf(workers int) int { return workers - keptOf(workers) }

func newDestination(limit int) *destination {
	return &destination{limit: limit, window: min(firstWindow, limit), place: -1}
}

// free reports whether one more attempt may begin.
func (d *destination) free() bool { return d.flying < d.window && d.meter.open(time.Now()) }

// slow reports whether an attempt there has been under way for too long.
func (d *destination) slow(now time.Time) bool {
	return d.oldest != nil && now.Sub(d.oldest.flyingSince) >= overdue
}

// promising reports whether idle hands are well spent there: what was begun
// there comes back, as far as is known. A place that hangs would take every hand
// that is idle at the moment, and keep it long after others need it. Where it is a
// rate that holds work back, more hands are of no use.
func (d *destination) promising(now time.Time) bool {
	return d.returns && d.flying >= d.window && !(d.slow(now) && d.heard.Before(d.oldest.flyingSince))
}

// begin notes that the attempt at j is under way.
func (d *destination) begin(j *job, now time.Time) {
	d.used = now
	d.meter.take()
	d.flying++
	j.flying, j.flyingSince = true, now
	if j.earlier = d.newest; j.earlier != nil {
		j.earlier.later = j
	} else {
		d.oldest = j
	}
	d.newest = j
}

// end notes that it is over.
func (d *destination) end(j *job) {
	d.flying--
	j.flying = false
	if j.earlier != nil {
		j.earlier.later = j.later
	} else {
		d.oldest = j.later
	}
	if j.later != nil {
		j.later.earlier = j.earlier
	} else {
		d.newest = j.earlier
	}
	j.earlier, j.later = nil, nil
}

// answered notes that an attempt was.
func (d *destination) answered(now time.Time) {
	d.heard, d.returns = now, true
	if len(d.waiting) > 0 {
		d.window = min(d.window+1, d.limit)
	} else {
		d.putOff = 0 // it keeps up
	}
}

// failed notes that the attempt at j ended without an answer.
func (d *destination) failed(j *job, now time.Time) {
	d.window = max(d.window/2, 1)
	d.returns = now.Sub(j.flyingSince) < overdue
}

// nextPutOff returns how long what waits is put off for at most: it doubles, up
// to limit.
func (d *destination) nextPutOff(limit time.Duration) time.Duration {
	d.putOff = min(max(2*d.putOff, firstPutOff), limit)
	return d.putOff
}

// jittered draws from the upper half of d.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// openHeap holds the destinations that have work waiting and room in their
// window, the one with the fewest attempts under way first; it implements
// heap.Interface.
type openHeap []*destination

func (h openHeap) Len() int           { return len(h) }
func (h openHeap) Less(i, j int) bool { return h[i].flying < h[j].flying }
func (h openHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *openHeap) Push(x any) {
	d := x.(*destination)
	d.place = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *openHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.place = -1
	return d
}
