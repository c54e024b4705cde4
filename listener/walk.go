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
// One that comes upon a backlog takes as long as that: it claims what is there, batch by
// batch. So it goes back to the floor when a walk is owed meanwhile, up to where it was then, and goes on
// above at the same time, step by step in turn: what a dead listener had does not wait until all that
// came later is done, nor does that wait where much below runs out again and again.
//
// The zero value is at rest.
type walk struct {
	stretch      // from its end on there is only what is new
	turn    bool // what is new is looked at first

	late   bool // it began at the mark
	filled bool // a step was full since it began, or last went back: it may take as long as a backlog does

	back  stretch // up to where the walk was when it went back, while it goes on
	aside bool    // the step that is under way, or was the last, is one of that

	owed  bool  // one from the floor on is to be made
	swept stint // the last one from the floor on
	again stint // the last pass back
	fetch stint // the last one from the mark on
}

// stretch is what a walk looks at step by step. The zero value is none.
type stretch struct {
	on   bool
	at   int64 // up to where everything was looked at
	end  int64
	full bool // the last step was: more is there at once
}

// stint is how long the steps of a walk took that found nothing more, or all of a pass back, and when it ended.
type stint struct {
	took  time.Duration
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

// rested reports whether the next walk of the kind may begin: long ones may have a quarter
// of the time, and short ones a twentieth.
func (s stint) rested() bool {
	return time.Since(s.ended) >= max(walkRest*s.took, min(shortRest*s.took, shortest))
}

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
	_, k.era = k.l.marks.seen()
	k.walk.start(false, 0, max(cursor, highest))
	return nil
}

// begin begins a walk where one is to be made, and the last of its kind is long enough ago.
func (w *walk) begin(mark, cursor int64) {
	switch late := cursor-mark >= walkStep; {
	case w.on && w.owed && w.filled && w.mayGoBack():
		w.goBack()
	case w.on:
	case w.owed && w.swept.rested():
		w.start(false, 0, cursor)
	case late && w.fetch.rested():
		w.start(true, mark, cursor)
	}
}

func (w *walk) start(late bool, at, end int64) {
	w.stretch, w.back, w.aside = stretch{on: true, at: at, end: end}, stretch{}, false
	w.late, w.turn, w.owed, w.filled = late, false, w.owed && late, false
	w.stint().took = 0
}

// mayGoBack reports whether a pass back may begin. Beside a walk from the mark on it is what one from
// the floor on would be.
func (w *walk) mayGoBack() bool {
	return !w.back.on && w.again.rested() && (!w.late || w.swept.rested())
}

// goBack has a pass made over what lies below.
func (w *walk) goBack() {
	w.owed, w.filled, w.back, w.again.took = false, false, stretch{on: true, end: w.at}, 0
}

func (w *walk) stint() *stint {
	if w.late {
		return &w.fetch
	}
	return &w.swept
}

// step reports whether the next look is one of the walk, and not at what is new, and whether that is
// one back at what lies below.
func (w *walk) step() (walking, aside bool) {
	walking = w.on && !w.turn
	w.turn = false
	if walking {
		w.aside = w.back.on && !w.aside
	}
	return walking, walking && w.aside
}

// stepping is what the step that is under way, or was the last, is one of.
func (w *walk) stepping() *stretch {
	if w.aside {
		return &w.back
	}
	return &w.stretch
}

// looked notes what came of a step: the highest number that it brought, whether there may
// be more up to upper, whether it brought what had been leased before, and how long it
// took.
func (w *walk) looked(upper, highest int64, full, old bool, took time.Duration) {
	s := w.stepping()
	if s.at, s.full = upper, full; full {
		s.at = highest
	}
	switch {
	case w.aside:
		w.again.took += took
	case full:
		w.filled = true
	default:
		w.stint().took += took
	}
	w.turn = old || !full && upper < top
	if w.back.on && w.back.at >= w.back.end {
		w.cameBack()
	}
	if w.at >= w.end {
		w.arrived()
	}
}

// cameBack ends the pass back, which rests by itself; beside a walk from the mark on it counts as one
// from the floor on.
func (w *walk) cameBack() {
	w.back, w.again.ended = stretch{}, time.Now()
	if w.late {
		w.swept = w.again
	}
}

// arrived ends the walk. What a pass back has left is for the next one, which may find what ran out
// above as well.
func (w *walk) arrived() {
	if w.back.on {
		if w.owed = true; !w.late {
			w.swept.took += w.again.took
		}
		w.cameBack()
	}
	w.on, w.stint().ended = false, time.Now()
}
