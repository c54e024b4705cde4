package listener

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoomBesideOneThatIsBusy: where a destination has all attempts that it may have, and
// a hand is idle, a claim is still not made for each place that becomes free: one for less
// than a batch is at least hastyEvery after the last.
func TestRoomBesideOneThatIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const workers, batch, answer = 16, 10, 50 * time.Millisecond
		h := hands{t, newQueue(workers, batch)}
		h.wait("busy", h.q.capacity())
		h.busy(workers, func(string) (time.Duration, verdict) {
			time.AfterFunc(answer, func() { h.q.settled(new(load), true) }) // on record as soon as it is answered
			return answer, answered
		})
		small := 0
		for begun := time.Now(); time.Since(begun) < 2*time.Second; {
			last := time.Now()
			n := h.q.room(t.Context(), batch)
			if took := time.Since(last); n < batch {
				small++
				if took < hastyEvery {
					t.Errorf("room for %d after %s", n, took)
				}
			}
			h.wait("busy", n)
		}
		if small == 0 {
			t.Error("there was always room for a batch: this test shows nothing")
		}
	})
}

// TestRoomForOthers: while a destination that does not answer fills all that may be held but
// one place, whoever waits for room has that place within hastyEvery.
func TestRoomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := hands{t, newQueue(16, 10)}
		h.wait("hangs", h.q.capacity()-1)
		h.busy(16, func(string) (time.Duration, verdict) { return time.Hour, unanswered })
		synctest.Wait()
		for range 2 {
			begun := time.Now()
			if n := h.q.room(t.Context(), 10); n != 1 || time.Since(begun) > hastyEvery {
				t.Errorf("room for %d after %s, want 1 within %s", n, time.Since(begun), hastyEvery)
			}
		}
	})
}

// TestRoomWhileRecordsWait: where nothing is left to do for any hand, since all that is held
// waits to be recorded, whoever waits for room has what there is within hastyEvery, however
// much was done in a second before.
func TestRoomWhileRecordsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const takes = 5 * time.Millisecond
		h := hands{t, newQueue(16, 10)}
		h.q.pace.rate = 4000
		for n := range 16 {
			h.wait(fmt.Sprint(n), 1) // and nobody settles it
		}
		h.q.lend(h.q.capacity() - 16 - 20)
		h.busy(16, func(string) (time.Duration, verdict) { return takes, answered })
		synctest.Wait() // each hand has one
		begun := time.Now()
		for _, want := range []time.Duration{takes, hastyEvery} {
			if n := h.q.room(t.Context(), 10); n != 20 || time.Since(begun) != want {
				t.Errorf("room for %d after %s, want 20 after %s", n, time.Since(begun), want)
			}
			begun = time.Now()
		}
	})
}
