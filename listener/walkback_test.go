package listener

import (
	"testing"
	"time"
)

// TestWalkGoesBack: a walk that claims a backlog goes back to the floor when one is owed, up to where
// it was, and goes on above in turn; one that comes upon nothing does not.
func TestWalkGoesBack(t *testing.T) {
	t.Parallel()
	var w walk
	w.start(false, 0, 1000)
	for i, tt := range []struct {
		name           string
		aside          bool // what the step is
		upper, highest int64
		full           bool
		at             int64   // of the walk, after it
		back           stretch // after it, and once one more is owed
		rested         bool    // whether the last pass back is long enough ago
	}{
		{"nothing there", false, 100, 0, false, 100, stretch{}, true},
		{"a part of a backlog", false, top, 110, true, 110, stretch{true, 0, 110, false}, true},
		{"what a dead listener had", true, 110, 20, true, 110, stretch{true, 20, 110, true}, true},
		{"more of the backlog", false, top, 120, true, 120, stretch{true, 20, 110, true}, true},
		{"nothing more below", true, 110, 20, false, 120, stretch{}, false},
		{"more of the backlog, at once", false, top, 130, true, 130, stretch{}, false},
		{"and more", false, top, 140, true, 140, stretch{true, 0, 140, false}, true},
		{"what ran out", true, 140, 30, true, 140, stretch{true, 30, 140, true}, true},
	} {
		w.turn = false
		if walking, aside := w.step(); !walking || aside != tt.aside {
			t.Fatalf("%s: walking %t, aside %t", tt.name, walking, aside)
		}
		w.looked(tt.upper, tt.highest, tt.full, false, time.Millisecond)
		if w.again = (stint{time.Hour, time.Now()}); tt.rested {
			w.again.ended = time.Time{}
		}
		w.owed = true
		w.begin(0, 1000)
		if w.at != tt.at || w.back != tt.back {
			t.Errorf("%d, %s: at %d, back %+v; want %d and %+v", i, tt.name, w.at, w.back, tt.at, tt.back)
		}
	}

	// What a pass back has left, when the end is reached, is for the next walk.
	w.turn, w.owed = false, false
	w.step()
	w.swept.took, w.again.took = time.Second, time.Second
	w.looked(top, 0, false, false, time.Second)
	if w.on || !w.owed || w.back.on || w.swept.took != 3*time.Second || w.swept.rested() {
		t.Errorf("at the end: %+v", w)
	}
}

// TestWalkRestsByAllOfIt: a walk that went back rests by all that it took, not by what came after.
func TestWalkRestsByAllOfIt(t *testing.T) {
	t.Parallel()
	const step = 50 * time.Millisecond
	var w walk
	w.start(false, 0, 100*walkStep)
	w.looked(walkStep, 10, true, true, step)
	walked := time.Duration(0) // by the steps of the walk that were not full
	for w.on {
		w.turn = false
		_, aside := w.step()
		at, end := &w.at, w.end
		if aside {
			at, end = &w.back.at, w.back.end
		} else {
			walked += step
		}
		w.looked(min(*at+walkStep, end), 0, false, false, step)
		if w.at == 90*walkStep && w.on && !w.back.on {
			w.owed = true
			w.begin(w.end, w.end)
			if !w.back.on {
				t.Fatal("it does not go back: this test shows nothing")
			}
		}
	}
	if w.swept.took < walked {
		t.Errorf("%s of steps, and it rests by %s", walked, w.swept.took)
	}
}

// TestPassesRestByThemselves: what a walk over a long backlog spent on passes back does not keep the next one waiting.
func TestPassesRestByThemselves(t *testing.T) {
	t.Parallel()
	var w walk
	w.start(false, 0, 1000)
	for at := int64(10); at < 100; at += 10 {
		w.turn = false
		w.step()
		w.looked(top, at, true, false, time.Millisecond)
		w.again.ended, w.owed = time.Time{}, true
		w.begin(0, 1000)
		if _, aside := w.step(); !aside {
			t.Fatalf("no pass back: %+v", w)
		}
		w.looked(w.back.end, 0, false, false, time.Hour)
	}
	w.turn = false
	w.step()
	if w.looked(top, 0, false, false, time.Millisecond); w.on || w.swept.took > time.Second {
		t.Errorf("it rests by %s", w.swept.took)
	}
}

// TestLateWalkStaysShort: a walk from the mark on, which finds a backlog that committed late, does not
// become one over all that is processed while one of those is to rest; and once it may go back, that counts as one.
func TestLateWalkStaysShort(t *testing.T) {
	t.Parallel()
	var w walk
	w.swept = stint{10 * time.Second, time.Now()}
	w.start(true, 200*walkStep, 202*walkStep)
	w.looked(201*walkStep, 200*walkStep+10, true, false, time.Millisecond)
	w.owed = true
	if w.begin(200*walkStep, 202*walkStep); w.back.on || !w.late || w.at != 200*walkStep+10 {
		t.Fatalf("while the other rests: %+v", w)
	}
	w.swept.ended = time.Time{}
	if w.begin(200*walkStep, 202*walkStep); !w.back.on || !w.late {
		t.Fatalf("after its rest: %+v", w)
	}
	w.turn = false
	w.step()
	w.looked(w.back.end, 0, false, false, time.Minute)
	if w.back.on || w.swept.took != time.Minute || w.swept.rested() {
		t.Errorf("after the pass back: %+v", w)
	}
}

// TestBacklogBesideAPassBack: while a walk goes back over much that is processed, the backlog that it has come
// upon is looked at in turn.
func TestBacklogBesideAPassBack(t *testing.T) {
	t.Parallel()
	k := &looker{l: &Listener{}, full: true}
	k.l.marks.looked(0, top, 40*walkStep, false, 0)
	k.walk.start(false, 0, 60*walkStep)
	k.walk.at, k.walk.filled, k.walk.owed = 40*walkStep+10, true, true
	below, above := 0, 0
	for lower, upper, walking := k.bounds(time.Now()); k.walk.back.on; lower, upper, walking = k.bounds(time.Now()) {
		if !walking {
			continue
		}
		if k.walk.aside {
			below++
			k.walk.looked(upper, 0, false, false, 50*time.Millisecond)
		} else {
			if above++; above > 1 && !k.walk.stepping().full {
				t.Fatal("a step of the backlog does not know that there is more, since one below had nothing")
			}
			k.walk.looked(upper, lower+10, true, false, 50*time.Millisecond)
		}
		if upper-lower > walkStep {
			t.Fatalf("a step at %d to %d", lower, upper)
		}
	}
	if below < 40 || above < below-1 {
		t.Errorf("%d looks below and %d at the backlog", below, above)
	}
}
