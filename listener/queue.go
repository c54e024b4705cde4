package listener

import (
	"context"
	"sync"
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
