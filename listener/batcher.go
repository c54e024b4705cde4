package listener

import (
	"context"
	"sync"
)

// batcher gathers items while the previous batch is being written: group
// commit. Nothing waits for a batch to fill; under load batches grow by
// themselves.
type batcher[T any] struct {
	max      int // items in a batch
	maxBytes int // about, of a batch of more than one
	size     func(T) int
	flush    func([]T)

	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

func newBatcher[T any](limit, maxBytes int, size func(T) int, flush func([]T)) *batcher[T] {
	return &batcher[T]{max: limit, maxBytes: maxBytes, size: size, flush: flush, wake: make(chan struct{}, 1)}
}

func (b *batcher[T]) add(items ...T) {
	b.mu.Lock()
	b.items = append(b.items, items...)
	b.mu.Unlock()
	signal(b.wake)
}

func (b *batcher[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := 0, 0
	for n < len(b.items) && n < b.max && (n == 0 || bytes < b.maxBytes) {
		bytes += b.size(b.items[n])
		n++
	}
	out := b.items[:n:n]
	if b.items = b.items[n:]; len(b.items) == 0 {
		b.items = nil
	}
	return out
}

// run flushes batches until ctx ends, one at a time.
func (b *batcher[T]) run(ctx context.Context) {
	for {
		if items := b.take(); len(items) > 0 {
			b.flush(items)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
	}
}

// signal makes c readable; c has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
