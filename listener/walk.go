package listener

import (
	"context"
	"time"
)

// walk is a look at all numbers from the floor on, since leases may have run out anywhere.
// One event that cannot be planned, or that somebody has locked, holds the floor for as
// long as it is so, and what was processed above it is walked over each time. So the walk
// is made in steps, each of which the server is done with in time, and takes a part of the
// time only. Between them comes what is new.
//
// The zero value is at rest.
type walk struct {
	on   bool
	at   int64 // up to where everything was looked at
	end  int64 // from here on there is only what is new
	turn bool  // what is new is looked at first

	took  time.Duration // by the steps that found nothing more, of this walk or the last one
	ended time.Time
}

// walkStep is how many numbers one step has. Rows of that many that are processed take the
// server some 50 ms.
const walkStep = 50_000

// walkRest is how many times as long as a walk took it is until the next.
const walkRest = 3

// sweepEvents begins a walk, unless one is under way or the last was not long ago, by what
// it took. anew says that the marks were forgotten, and nobody knows what lies above the floor.
func (k *looker) sweepEvents(ctx context.Context, anew bool) error {
	w := &k.walk
	if !anew && (w.on || time.Since(w.ended) < walkRest*w.took) {
		return nil
	}
	_, _, end, _ := k.l.marks.get()
	if anew {
		highest, _, err := k.l.store.readFlight(ctx)
		if err != nil {
			return err
		}
		end = max(end, highest)
	}
	*w = walk{on: true, end: end}
	return nil
}

// step reports whether the next look is one of the walk, and not at what is new.
func (w *walk) step() bool {
	step := w.on && !w.turn
	w.turn = false
	return step
}

// next is what the next step looks at: the numbers above lower, up to upper.
func (w *walk) next(floor int64) (lower, upper int64) {
	lower = max(w.at, floor)
	if w.end-lower > walkStep {
		return lower, lower + walkStep
	}
	return lower, top
}

// looked notes what came of a step: the highest number that it brought, whether there may
// be more up to upper, whether it brought what had been leased before, and how long it
// took.
func (w *walk) looked(upper, highest int64, full, old bool, took time.Duration) {
	if full {
		w.at = max(w.at, highest)
	} else {
		w.at = upper
		w.took += took
	}
	w.turn = old || !full && upper < top
	if w.at >= w.end {
		w.on, w.ended = false, time.Now()
	}
}
