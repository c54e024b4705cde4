package listener

import (
	"fmt"
	"testing"
	"time"
)

// TestAbsences: what is put off comes back one after the other, not before least, but the first of each type at once then;
// what finds no turn for long comes at any time until then, and all of that does not come together.
func TestAbsences(t *testing.T) {
	t.Parallel()
	var a absences
	now, least := time.Now(), 20*time.Second
	ahead := int((longestAbsence - least) / turnsApart)
	for i := range ahead + 1 { // the first is in front and has no turn
		if got, want := a.next(now, least, "many"), least+time.Duration(max(i-1, 0))*turnsApart; got != want {
			t.Fatalf("turn %d is in %s, want %s", i, got, want)
		}
	}
	if got := a.next(now, least, "one"); got != least {
		t.Errorf("the first of another type comes in %s", got)
	}
	var early, late int
	for range 1000 {
		switch got := a.next(now, least, "many"); {
		case got < least || got >= longestAbsence:
			t.Fatalf("one that finds no turn comes in %s", got)
		case got < (least+longestAbsence)/2:
			early++
		default:
			late++
		}
	}
	if min(early, late) < 400 {
		t.Errorf("of those without a turn %d come in the first half and %d in the second", early, late)
	}
	if !a.of(now, "many") || !a.of(now, "one") || a.of(now, "none") {
		t.Error("it is not known of which type something is put off")
	}
	front := now.Add(least)
	if got := a.next(front, least, "one"); got != least {
		t.Errorf("when the one in front has come back the next of its type is in %s", got)
	}
	a.next(front, least, "many") // in front
	a.over("one")
	if got := a.next(front, least, "many"); got < 2*least {
		t.Errorf("when another type is over one that has a turn to wait for comes in %s", got)
	}
	a.over("many")
	if a.of(now, "many") || a.next(now, least, "many") != least || a.next(now, least, "many") != least || a.next(now, least, "many") != least+turnsApart {
		t.Error("when all is over the turns do not begin anew")
	}
	a.next(now, least, "one")
	if end := now.Add(2 * longestAbsence); a.of(end, "many") || a.of(end, "one") || a.some.Load() {
		t.Error("what has come back is still put off")
	}
}

// TestManyTypesPutOff: with more types than are told apart turns are no closer than otherwise.
func TestManyTypesPutOff(t *testing.T) {
	t.Parallel()
	var a absences
	now, least := time.Now(), 20*time.Second
	for i := range mostTypes {
		a.next(now, least, fmt.Sprint(i))
	}
	for i := range 100 {
		if got, want := a.next(now, least, fmt.Sprint("more", i)), least+time.Duration(i)*turnsApart; got != want {
			t.Fatalf("turn %d is in %s, want %s", i, got, want)
		}
	}
	if a.of(now, "more1") {
		t.Error("there are more than are told apart")
	}
	if got := a.next(now.Add(longestAbsence), least, "later"); got != least || !a.of(now.Add(longestAbsence), "later") {
		t.Errorf("once the others have come back another is in %s", got)
	}
}

// TestHastenAsItGoes: steps grow while what was brought forward is planned, and begin anew where it is not; what
// is not known yet changes nothing.
func TestHastenAsItGoes(t *testing.T) {
	t.Parallel()
	h, now := hasten{types: map[string]*hastening{"a": {}}}, time.Now()
	for i, tt := range []struct{ ok, failed, want int }{
		{0, 0, 20}, {9, 0, 20}, {51, 3, 80}, {0, 3, 80}, {0, 3, 80}, {78, 6, 320}, {320, 0, 500}, {500, 0, 500}, {100, 0, 500}, {150, 260, 20}, {0, 20, 20}, {9, 0, 20}, {1, 0, 80},
	} {
		a := h.types["a"]
		a.ok, a.failed = a.ok+tt.ok, a.failed+tt.failed
		if got := h.steps(now)["a"]; got.most != tt.want || got.spoilt != (i > 1) {
			t.Errorf("step %d: %d, spoilt %t, want %d", i, got.most, got.spoilt, tt.want)
		}
	}
	h.types["b"] = &hastening{}
	if got := h.steps(now)["b"].most; got != 10 {
		t.Errorf("beside another type the first step is of %d, want 10", got)
	}
	h.end("a", now.Add(hastenRest))
	h.end("b", time.Time{})
	if h.goesOn() || len(h.steps(now)) > 0 || h.types["a"] == nil {
		t.Error("passes that are over go on, or one that rests is forgotten")
	}
	if h.steps(now.Add(2 * hastenRest)); len(h.types) > 0 {
		t.Error("one that has rested is remembered")
	}
	for i := range 100 {
		h.types[fmt.Sprint(i)] = &hastening{}
	}
	if got := h.steps(now); len(got) != hastenFew {
		t.Errorf("of 100 types %d have a step, want %d", len(got), hastenFew)
	}
}
