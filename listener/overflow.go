package listener

import (
	"iter"
	"slices"
	"strings"
	"time"
)

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
		stuck := q.giants.len() > 0 && q.loaded >= q.workers && slices.ContainsFunc(d.waiting, ofGiant)
		if !q.crowds(d) && !stuck || !d.slow(now) {
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

// behind reports whether what goes to a destination, or to a part of it that has a rate of its own, waits here for
// answers: it was put off for that of late, or is about to be.
func (q *queue) behind(provider string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for d := range q.of(provider) {
		if now.Sub(d.relieved) < behindFor || q.crowds(d) && d.slow(now) {
			return true
		}
	}
	return false
}

// behindFor is how long after that a destination is left alone with what waits longer.
const behindFor = 5 * time.Second

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

// of yields what there is of a provider's destination: itself, or the parts of it that have a rate of their own.
func (q *queue) of(provider string) iter.Seq[*destination] {
	return func(yield func(*destination) bool) {
		for name, d := range q.places {
			if (name == provider || strings.HasPrefix(name, provider+" ")) && !yield(d) {
				return
			}
		}
	}
}

// crowds reports whether a good part of everything that may be held waits for d.
func (q *queue) crowds(d *destination) bool { return len(d.waiting) > q.capacity()/8 }

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
