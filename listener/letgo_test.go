package listener

import (
	"log/slog"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestPanicGivesItsPlaceBack: where a worker panics before an attempt has begun, the place
// that it had in its destination's window is free for the next one.
func TestPanicGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	q := newQueue(4, 10)
	first, second := &job{destination: "carrier"}, &job{destination: "carrier"}
	first.aside, first.outcome = true, &dispatch.Outcome{} // so that try asks for brakes, of which there are none
	l := &Listener{queue: q, log: slog.New(slog.DiscardHandler)}
	q.claimedJobs([]*job{first, second})
	w, ok := q.pop(t.Context())
	if !ok || w.job != first {
		t.Fatalf("popped %+v, %t", w, ok)
	}
	if len(q.open) != 0 {
		t.Fatal("the window has room for two, so that this shows nothing")
	}
	l.work(t.Context(), w)
	if w, ok := q.pop(t.Context()); !ok || w.job != second {
		t.Errorf("popped %+v, %t, want the second", w, ok)
	}
}
