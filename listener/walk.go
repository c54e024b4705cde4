package listener

import (
	"context"
	"time"
)

// walk is a look at all numbers from the floor on, since leases may have run out anywhere, or
// from the mark on, where that is far behind. One event that cannot be planned, or that
// somebody has locked, holds the floor for as long as it is so, and a transaction that
// wrote and stays open holds the mark; what was processed above is walked over each time. So the walk
// is made in steps, each of which the server is done with in time, and takes a part of the
// time only. Between them comes what is new.
//
// The zero value is at rest.
type walk struct {
	on   bool
	at   int64 // up to where everything was looked at
	end  int64 // from here on there is only what is new
	turn bool  // what is new is looked at first

	owed  bool          // one from the floor on is to be made
	took  time.Duration // by the steps that found nothing more, of this walk or the last one
	ended time.Time
}

// walkStep is how many numbers one look has at most. Rows of that many that are processed
// take the server some 50 ms.
const walkStep = 50_000

// walkRest is how many times as long as a walk took it is until the next, and shortRest how
// many times after one that took less than walkRest twentieths of shortest.
const (
	walkRest  = 3
	shortRest = 19
	shortest  = time.Second
)

// rest is how long it is from the end of a walk to the next: long ones may have a quarter
// of the time, and short ones a twentieth.
func (w *walk) rest() time.Duration { return max(walkRest*w.took, min(shortRest*w.took, shortest)) }

// sweepEvents has a walk from the floor on made: at once where the marks were forgotten and
// nobody knows what lies above the floor (anew), and otherwise when the last one is long enough ago.
func (k *looker) sweepEvents(ctx context.Context, anew bool) error {
	k.walk.owed = true
	if !anew {
		return nil
	}
	highest, _, err := k.l.store.readFlight(ctx)
	if err != nil {
		return err
	}
	_, _, cursor, _ := k.l.marks.get()
	k.walk = walk{on: true, end: max(cursor, highest)}
	return nil
}

// begin begins a walk where one is to be made, and the last is long enough ago.
func (w *walk) begin(mark, cursor int64) {
	switch late := cursor-mark > walkStep; {
	case w.on || !w.owed && !late || time.Since(w.ended) < w.rest():
	case w.owed:
		*w = walk{on: true, end: cursor}
	default:
		*w = walk{on: true, at: mark, end: cursor}
	}
}

// step reports whether the next look is one of the walk, and not at what is new.
func (w *walk) step() bool {
	step := w.on && !w.turn
	w.turn = false
	return step
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
