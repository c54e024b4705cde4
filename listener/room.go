package listener

import (
	"context"
	"encoding/json"
	"time"
)

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

// hastyEvery is how long it is at least from one claim to the next where that is made
// before there is room for as much as under load.
const hastyEvery = 20 * time.Millisecond

// room waits until n more may be claimed and returns how many may be, at
// least n unless ctx ends first. Under load it waits for more than n, so that
// there are fewer and larger claims. Where a worker has nothing to do, since what
// is held must not begin yet or is waiting to be recorded, it waits no longer than hastyEvery
// after the last time: one is enough.
func (q *queue) room(ctx context.Context, n int) int {
	for {
		q.mu.Lock()
		free := q.capacity() - q.held
		enough := free >= max(n, q.ahead()/2) // what is held lasts meanwhile
		var hasty time.Duration
		starved := q.idle > 0 && free > 0
		if starved && !enough {
			hasty = hastyEvery - time.Since(q.roomy)
			enough = hasty <= 0
		}
		if enough {
			q.roomy = time.Now()
		}
		q.mu.Unlock()
		if enough {
			signal(q.freed) // for whoever waits beside us
			return free
		}
		var soon <-chan time.Time
		if starved {
			soon = time.After(hasty)
		}
		select {
		case <-ctx.Done():
			signal(q.freed) // it may have been ours
			return 0
		case <-q.freed:
		case <-soon:
		}
	}
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
