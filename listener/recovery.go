package listener

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A destination that was braked and answers again gets what waited for it at RecoverRate a
// second, of all listeners, beside what is new: it was in trouble a moment ago, and what goes elsewhere
// has its room meanwhile.
const RecoverRate = 1500

// recoverEvery is how often that is seen to; resume_braked.sql looks as far ahead.
const recoverEvery = time.Second

// recovery are the destinations that were braked, and for which something may wait still.
// Between the end of a brake and when we hear of it, we may have put off what was due for it; so
// each is over only when nothing was left twice, for records that were under way.
type recovery struct {
	mu    sync.Mutex
	last  time.Time
	empty map[string]int // how often nothing was left, by destination
}

// again notes that something may wait for destinations, which are braked no more.
func (r *recovery) again(destinations ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.empty == nil {
		r.empty = map[string]int{}
	}
	for _, d := range destinations {
		r.empty[d] = 0
	}
}

// next returns those that are to be seen to now; soon says not to wait until the last time is
// recoverEvery ago.
func (r *recovery) next(soon bool) (destinations []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.empty) == 0 || !soon && now.Sub(r.last) < recoverEvery {
		return nil
	}
	r.last = now
	for d := range r.empty {
		destinations = append(destinations, d)
	}
	return destinations
}

// seen notes whether there may be more for a destination.
func (r *recovery) seen(destination string, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, is := r.empty[destination]
	switch {
	case !is:
	case more:
		r.empty[destination] = 0
	case n == 0:
		r.empty[destination] = 1
	default:
		delete(r.empty, destination)
	}
}

// stop forgets a destination: it is braked again, or all that waits for it is due.
func (r *recovery) stop(destination string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.empty, destination)
}

// resumeBraked makes due what waited for destinations that are braked no more, little by
// little.
func (l *Listener) resumeBraked(ctx context.Context) {
	ended := l.brakes.ended()
	l.recovery.again(ended...)
	for _, destination := range l.recovery.next(len(ended) > 0) {
		if l.brakes.has(destination) {
			l.recovery.stop(destination)
			continue
		}
		n, more, err := l.store.resumeBraked(ctx, HeldBy(destination))
		if err != nil {
			l.sparse.warn(brakeOver, err)
			continue
		}
		if l.recovery.seen(destination, more); n > 0 {
			l.noteDue(0)
		}
	}
	if len(ended) > 0 {
		l.noteDue(0) // whoever else heard of it may have made some of it due
	}
}

// resumeBraked makes RecoverRate of what waits for a reason due within a second, and says
// whether there may be more.
func (s *store) resumeBraked(ctx context.Context, reason string) (n int, more bool, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlResumeBraked, reason, RecoverRate, (brakeTrust + 2*pausedFor).Seconds()).QueryRow(func(row pgx.Row) error { return row.Scan(&n, &more) })
	})
	if err != nil {
		return 0, false, fmt.Errorf("resume what waited for a brake: %w", err)
	}
	return n, more, nil
}
