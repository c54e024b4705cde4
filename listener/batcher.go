package listener

import (
	"context"
	"sync"
	"time"
)

// batcher gathers items while the previous batch is being written: group
// commit. Nothing waits for a batch to fill, but batches may be kept apart a
// little, so that a stream of items does not become as many commits.
type batcher[T any] struct {
	apart    time.Duration // least time from the start of a batch to that of the next; 0 for none
	enough   int           // items that do not wait for it
	max      int           // items in a batch
	maxBytes int           // about, of a batch of more than one
	size     func(T) int
	flush    func([]T)
	writers  []writer

	mu    sync.Mutex
	items []T
}

// writer writes one batch at a time. The first takes whatever waits; others
// begin only when least items do, so that they help under load and split no
// small batch.
type writer struct {
	least int
	wake  chan struct{}
}

// newBatcher makes a batcher with one writer, and one more for each of
// helpers, which is the number of waiting items that it begins at.
func newBatcher[T any](limit, maxBytes int, size func(T) int, flush func([]T), helpers ...int) *batcher[T] {
	b := &batcher[T]{max: limit, maxBytes: maxBytes, size: size, flush: flush}
	for _, least := range append([]int{1}, helpers...) {
		b.writers = append(b.writers, writer{least, make(chan struct{}, 1)})
	}
	return b
}

func (b *batcher[T]) add(items ...T) {
	b.mu.Lock()
	b.items = append(b.items, items...)
	waiting := len(b.items)
	b.mu.Unlock()
	for _, w := range b.writers {
		if waiting >= w.least {
			signal(w.wake)
		}
	}
}

// take returns the next batch, or none where fewer than least items wait.
func (b *batcher[T]) take(least int) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.items) < least {
		return nil
	}
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

// few reports whether something waits, and not enough to go on at once.
func (b *batcher[T]) few() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) > 0 && len(b.items) < b.enough
}

// run flushes batches until ctx ends. With one writer they are flushed one at
// a time, in the order in which their items were added.
func (b *batcher[T]) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range b.writers {
		wg.Go(func() {
			var begun time.Time
			for {
				if rest := b.apart - time.Since(begun); rest > 0 && b.few() {
					wait(ctx, rest)
				}
				if items := b.take(w.least); len(items) > 0 {
					begun = time.Now()
					b.flush(items)
					continue
				}
				select {
				case <-ctx.Done():
					return
				case <-w.wake:
				}
			}
		})
	}
	wg.Wait()
}

// signal makes c readable; c has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
