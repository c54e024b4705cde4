package listener

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestComeRound: what has something to do comes round every so often, and what has nothing rests until it is
// woken, or for idleEvery.
func TestComeRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := make(chan struct{}, 1)
		round := func(idle bool, wakeAfter time.Duration) time.Duration {
			begun := time.Now()
			if wakeAfter > 0 {
				time.AfterFunc(wakeAfter, func() { signal(woken) })
			}
			if !comeRound(t.Context(), time.Second, idle, woken) {
				t.Error("it is over")
			}
			return time.Since(begun)
		}
		for _, tt := range []struct {
			idle  bool
			after time.Duration
			want  time.Duration
		}{
			{false, 0, time.Second},
			{true, 0, idleEvery + time.Second},
			{true, 2 * time.Second, 3 * time.Second},
			{false, time.Millisecond, time.Second}, // which it is told of once it rests
			{true, 0, time.Second},
		} {
			if got := round(tt.idle, tt.after); got != tt.want {
				t.Errorf("idle %t, woken after %s: it came round after %s, want %s", tt.idle, tt.after, got, tt.want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if begun := time.Now(); comeRound(ctx, time.Minute, true, nil) || time.Since(begun) != time.Second {
			t.Errorf("it did not end with its context")
		}
	})
}
