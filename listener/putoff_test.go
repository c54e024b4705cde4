package listener

import (
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
	for i := range ahead {
		if got, want := a.next(now, least, "many"), least+time.Duration(i)*turnsApart; got != want {
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
	if got := a.next(now.Add(longestAbsence), least, "many"); got != least {
		t.Errorf("after all turns are over the next is in %s, want %s", got, least)
	}
	a.over("many")
	if a.of(now, "many") || a.next(now, least, "many") != least || a.next(now, least, "many") != least+turnsApart {
		t.Error("once all of a type come back the turns do not begin anew")
	}
	if end := now.Add(2 * longestAbsence); a.of(end, "many") || a.of(end, "one") || a.some.Load() {
		t.Error("what has come back is still put off")
	}
}
