package listener

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Destinations that were braked and answer again get what waited for them little by little,
// beside what is new: they were in trouble a moment ago, and what goes elsewhere has its room meanwhile. It begins with
// RecoverRate a second, of all listeners and for all such destinations, and that doubles every RecoverTwice up to
// RecoverMost.
const (
	RecoverRate  = 500
	RecoverTwice = time.Minute
	RecoverMost  = 4000
)

// That is seen to every recoverEvery, for the next recoverAhead: a little at a time, so that nothing waits for it, and whoever is
// late leaves no gap. Where it takes long it is less often, for a tenth of the time.
const (
	recoverEvery = 100 * time.Millisecond
	recoverAhead = time.Second
	recoverQuiet = 2 * time.Second // that nothing was left for, before it is over
	recoverShare = 10
	recoverMany  = 16               // destinations at once
	recoverLater = 10 * time.Second // the longest time from one to the next
)

// recovery are the destinations that were braked, and for which something may wait still.
// Between the end of a brake and when we hear of it, we may have put off what was due for it, and records
// were under way; so each is over only when nothing was left for recoverQuiet.
type recovery struct {
	mu sync.Mutex
	at time.Time              // of the next little
	of map[string]*recovering // by destination
}

// recovering is one of them.
type recovering struct {
	since time.Time
	empty time.Time // since when nothing was left; zero: not yet
}

// rate is how many go there a second.
func (r *recovering) rate(now time.Time) int {
	return min(RecoverRate<<min(now.Sub(r.since)/RecoverTwice, 16), RecoverMost)
}

// again notes that something may wait for destinations, which are braked no more.
func (r *recovery) again(destinations ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]*recovering{}
	}
	for _, d := range destinations {
		if r.of[d] == nil {
			r.of[d] = &recovering{since: time.Now()}
		}
		r.of[d].empty = time.Time{}
	}
}

// due returns a channel that brings something when it is time for the next little; nil
// where nothing waits.
func (r *recovery) due() <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.of) == 0 {
		return nil
	}
	return time.After(time.Until(r.at))
}

// ready reports whether it is time for the next little.
func (r *recovery) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.of) > 0 && !time.Now().Before(r.at)
}

// took notes how long the last little took.
func (r *recovery) took(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = time.Now().Add(max(recoverEvery-d, min((recoverShare-1)*d, recoverLater)))
}

// next returns the rates of those that are to be seen to now, and for how long ahead: of some, where
// there are many, and then for longer.
func (r *recovery) next() (rates map[string]int, ahead time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	rates = make(map[string]int, min(len(r.of), recoverMany))
	for d, one := range r.of { // in any order
		if len(rates) == recoverMany {
			break
		}
		rates[d] = max(one.rate(now)/len(r.of), 1)
	}
	return rates, max(recoverAhead, time.Duration(2*len(r.of)/recoverMany)*recoverEvery)
}

// slow notes that a destination has enough for now.
func (r *recovery) slow(destination string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.of[destination]; one != nil {
		one.since = time.Now()
	}
}

// seen notes whether there may be more for a destination.
func (r *recovery) seen(destination string, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.of[destination]
	switch {
	case one == nil:
	case more:
		one.empty = time.Time{}
	case one.empty.IsZero():
		one.empty = time.Now()
	case time.Since(one.empty) >= recoverQuiet:
		delete(r.of, destination)
	}
}

// stop forgets a destination: it is braked again, or all that waits for it is due.
func (r *recovery) stop(destination string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, destination)
}

// resumeBraked makes due what waited for destinations that are braked no more, little by
// little: when it is time to, or something was braked until now, or it is the last time.
func (l *Listener) resumeBraked(ctx context.Context, last bool) {
	ended := l.brakes.ended()
	if len(ended) == 0 && !last && !l.recovery.ready() {
		return
	}
	for _, destination := range ended {
		l.recovery.stop(destination) // it was braked again, perhaps too briefly for us to see
	}
	l.recovery.again(ended...)
	begun := time.Now()
	rates, ahead := l.recovery.next()
	for destination, rate := range rates {
		switch {
		case l.brakes.has(destination):
			l.recovery.stop(destination)
			continue
		case l.queue.behind(destination):
			l.recovery.slow(destination)
			continue
		case time.Since(begun) > recoverEvery && !last:
			continue // another time: brakes are seen to by the same hand
		}
		r, err := l.store.resumeBraked(ctx, HeldBy(destination), rate, ahead)
		if err != nil {
			l.sparse.warn(brakeOver, err)
			break
		}
		if r.alone {
			l.recovery.seen(destination, r.more)
		}
		if r.n > 0 {
			l.noteMadeDue()
		}
	}
	l.recovery.took(time.Since(begun))
	if len(ended) > 0 {
		l.noteDue(0) // whoever else heard of it may have made some of it due
	}
}

// resumed is what came of making a little due.
type resumed struct {
	n     int
	more  bool // perhaps
	alone bool // nobody else was at it; otherwise there is nothing to be said of the rest
}

// resumeBraked makes what waits for a reason due, rate a second, within ahead.
func (s *store) resumeBraked(ctx context.Context, reason string, rate int, ahead time.Duration) (r resumed, err error) {
	longest := brakeTrust + 2*pausedFor
	most := int(float64(rate) * ahead.Seconds())
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlTakeTurn, reason)
		b.Queue(sqlResumeBraked, reason, most, longest.Seconds(), ahead.Seconds()).QueryRow(func(row pgx.Row) error { return row.Scan(&r.n, &r.more, &r.alone) })
	})
	if err != nil {
		return resumed{}, fmt.Errorf("resume what waited for a brake: %w", err)
	}
	return r, nil
}
