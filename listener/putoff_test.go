package listener

import (
	"testing"
	"time"
)

// TestTurns: what is put off comes back one after the other, not before least; what finds no turn for
// long comes at any time until then, and all of that does not come together.
func TestTurns(t *testing.T) {
	t.Parallel()
	var turns turns
	now, least := time.Now(), 20*time.Second
	ahead := int((longestAbsence - least) / turnsApart)
	for i := range ahead {
		if got, want := turns.next(now, least), least+time.Duration(i)*turnsApart; got != want {
			t.Fatalf("turn %d is in %s, want %s", i, got, want)
		}
	}
	var early, late int
	for range 1000 {
		switch got := turns.next(now, least); {
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
	if got := turns.next(now.Add(longestAbsence), least); got != least {
		t.Errorf("after all turns are over the next is in %s, want %s", got, least)
	}
	if got := turns.next(now.Add(longestAbsence), time.Hour); got < time.Hour || got > time.Hour+turnsApart {
		t.Errorf("with a lease of an hour the next is in %s", got)
	}
}
