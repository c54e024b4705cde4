package listener

import (
	"sync"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Stats counts events by what became of them. Total is the sum of the rest.
type Stats struct {
	Total     int // events that were handled
	Processed int // every delivery arrived
	Skipped   int // there was nothing to deliver
	Errors    int // a delivery is dead, or waits for a retry or a person; or the event could not be planned yet
}

// add counts one event.
func (s *Stats) add(c class) {
	s.Total++
	switch c {
	case processed:
		s.Processed++
	case skipped:
		s.Skipped++
	default:
		s.Errors++
	}
}

// class is what became of one event.
type class int

const (
	processed class = iota
	skipped
	failed
)

// classify sums up the deliveries of one event: one failure makes it failed,
// and it counts as skipped only if nothing was delivered.
func classify(jobs []*job) class {
	c := skipped
	if len(jobs) == 0 {
		return processed
	}
	for _, j := range jobs {
		if j.outcome == nil && j.waiting() {
			continue // it is counted when its turn comes
		}
		if j.outcome == nil {
			return failed
		}
		if j.paused {
			continue // it is counted when it is sent
		}
		switch j.outcome.State {
		case dispatch.Delivered, dispatch.Scheduled:
			c = processed
		case dispatch.Skipped, dispatch.Canceled, dispatch.Expired:
		default:
			return failed
		}
	}
	return c
}

// tally counts the events that one caller claimed, and says when all of them
// are on record.
type tally struct {
	mu    sync.Mutex
	stats Stats
	open  int
	idle  chan struct{} // closed while open is 0
}

func newTally() *tally {
	t := &tally{idle: make(chan struct{})}
	close(t.idle)
	return t
}

func (t *tally) begin(n int) {
	if t == nil || n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == 0 {
		t.idle = make(chan struct{})
	}
	t.open += n
}

func (t *tally) done(c class) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.add(c)
	t.end()
}

// lost takes back one that another listener now has.
func (t *tally) lost() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

func (t *tally) end() {
	if t.open--; t.open == 0 {
		close(t.idle)
	}
}

// settled is closed once everything that was begun is done.
func (t *tally) settled() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.idle
}

func (t *tally) snapshot() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}
