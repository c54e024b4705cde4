package listener

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// move is one operation of a history: what, and numbers that choose upon whom. It
// says the same whatever came before it, so that others can be left out.
type move struct {
	what    string
	a, b, c int
}

// moves are the operations, the frequent ones more than once.
var moves = []string{"insert", "insert", "claim", "claim", "claim", "claim due", "claim due", "plan", "plan", "plan", "announce", "announce", "announce",
	"record fresh", "record fresh", "record", "record", "record delivery", "record delivery", "record delivery", "freeze", "freeze", "renew", "give back", "give back", "hasten",
	"expire event", "expire event", "give up", "expire delivery", "expire delivery", "expire delivery", "note look", "reopen", "reopen", "release held", "release held", "release held", "cancel", "cancel", "cancel", "delete", "record orphans", "disown",
	"pass turns", "pass turns", "pass turns", "stalled lines", "release followers", "release followers", "freeze delivery", "step results",
	"note report", "note report", "standing", "hold", "hold", "let out", "withdraw", "replay", "replay", "backlog"}

// themes are moves that lead deeper into one matter. Every other history is of one of
// them.
var themes = [][]string{
	{"insert", "claim", "claim", "plan", "plan", "freeze", "freeze", "freeze", "pass turns", "pass turns", "pass turns", "claim due", "record delivery", "record delivery",
		"replay", "replay", "reopen", "reopen", "expire delivery", "expire event", "withdraw", "hold", "let out", "stalled lines", "disown", "delete", "give up"},
	{"insert", "claim", "claim", "plan", "plan", "freeze", "freeze", "freeze", "record delivery", "record delivery", "record delivery", "record delivery", "claim due", "claim due",
		"release followers", "step results", "freeze delivery", "note report", "note report", "standing", "withdraw", "replay", "hold", "let out", "expire delivery", "reopen"},
	{"backlog", "backlog", "claim", "claim", "claim", "claim", "plan", "freeze", "record fresh", "record fresh", "give back", "give back", "reopen", "delete", "delete", "hasten", "renew"},
}

// history makes the history of a seed.
func history(seed uint64) []move {
	r := rand.New(rand.NewPCG(seed, 2))
	out, from := []move{{what: "insert"}}, moves
	if n := seed % uint64(2*len(themes)); n%2 == 0 {
		from = themes[n/2]
	}
	for range 30 + r.IntN(50) {
		out = append(out, move{from[r.IntN(len(from))], r.IntN(1 << 16), r.IntN(1 << 16), r.IntN(1 << 16)})
	}
	return out
}

func told(h []move) string {
	var lines []string
	for _, m := range h {
		lines = append(lines, fmt.Sprintf("  %s %d %d %d", m.what, m.a, m.b, m.c))
	}
	return strings.Join(lines, "\n")
}

// shrink leaves out of h, which fails, what it fails without.
func shrink(t *testing.T, db *pgtest.DB, h []move, why string) ([]move, string) {
	for again := true; again; {
		again = false
		for i := len(h) - 1; i >= 0; i-- {
			less := slices.Delete(slices.Clone(h), i, i+1)
			if n, still := run(t, db, less, map[string]int{}); still != "" {
				h, why, again = less[:n], still, true
			}
			i = min(i, len(h))
		}
	}
	return h, why
}
