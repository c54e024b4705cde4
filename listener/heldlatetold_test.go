package listener

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestHeldLateIsTold: where the last delivery in hand was held back for a brake that has ended meanwhile, who sees to
// what waited is told, since it may rest by then.
func TestHeldLateIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		braked bool // still
		wait   time.Duration
		want   bool
	}{
		{"over", false, time.Minute, true},
		{"still on", true, time.Minute, false},
		{"due soon anyway", false, soonAnyway, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &Listener{brakes: newBrakes()}
			if tt.braked {
				l.brakes.on["there"] = &brake{}
				l.brakes.some.Store(true)
			}
			l.heldLate(&job{provider: "there", paused: true}, &dispatch.Outcome{Reason: HeldBy("there")}, tt.wait)
			told := false
			select {
			case <-l.brakes.free:
				told = true
			default:
			}
			if again := l.recovery.due() != nil; told != tt.want || again != tt.want {
				t.Errorf("told %t, something is to be made due %t; want both %t", told, again, tt.want)
			}
		})
	}
}
