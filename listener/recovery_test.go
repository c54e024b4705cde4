package listener

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestRecoverRate: what waited for a destination that answers again goes there at a pace, which
// several listeners keep together, one step after the other; others' deliveries are left alone, and so
// is what somebody works on.
func TestRecoverRate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ahead := int(RecoverRate * recoverAhead.Seconds())
	many := ahead + ahead/4
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, $1::integer)`, many+2)
	addDelivery(t, db, "a", "x", "ready", "null")
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() + interval '5 minutes' + event_seq * interval '1 ms',
		last_error = case when event_seq = 1 then $1 else $2 end, claim = case when event_seq = 2 then gen_random_uuid() end`, HeldBy("elsewhere"), HeldBy("there"))
	s, _, _ := pruners(t, db)
	var mu sync.Mutex
	var wg sync.WaitGroup
	total, mores := 0, 0
	for range 3 {
		wg.Go(func() {
			r, err := s.resumeBraked(t.Context(), HeldBy("there"), RecoverRate, recoverAhead)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if total += r.n; r.more {
				mores++
			}
		})
	}
	wg.Wait()
	if total != ahead || mores != 3 {
		t.Errorf("three made %d due, of which %d know of more, want %d and 3", total, mores, ahead)
	}
	steps := pgtest.QueryVals[int](t, db, `select count(*) from outbox.deliveries where due_at < now() + interval '2 minutes' group by due_at order by due_at`)
	if len(steps) != int(recoverAhead/(10*time.Millisecond)) || slices.Max(steps) != RecoverRate/100 {
		t.Errorf("by steps: %v", steps)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_seq <= 2 and due_at < now() + interval '2 minutes'`); n != 0 {
		t.Errorf("%d are due that wait for something else, or that somebody has", n)
	}
	// The rest, when these have left.
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = null where due_at < now() + interval '2 minutes'`)
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '3 seconds', last_error = ''
		where id in (select id from outbox.deliveries where due_at is null limit 20)`)
	if r, err := s.resumeBraked(t.Context(), HeldBy("there"), RecoverRate, recoverAhead); r != (resumed{0, true, true}) || err != nil {
		t.Errorf("while listeners are behind: %+v, %v", r, err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = null where due_at < now()`)
	if r, err := s.resumeBraked(t.Context(), HeldBy("there"), RecoverRate, recoverAhead); r != (resumed{many - total, false, true}) || err != nil {
		t.Errorf("then %+v, %v", r, err)
	}
}

// TestRecovery: a destination is seen to every recoverEvery until nothing was left for recoverQuiet, and no
// more once it is braked again; more goes there with time.
func TestRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recovery
		rates := func() map[string]int { rates, _ := r.next(); return rates }
		next := func(want ...string) {
			t.Helper()
			if due := r.due(); (due != nil) != (len(want) > 0) {
				t.Errorf("due %t, want %v", due != nil, want)
			} else if begun := time.Now(); due != nil {
				if <-due; time.Since(begun) > recoverEvery {
					t.Errorf("after %s", time.Since(begun))
				}
				r.took(0)
			}
			got := slices.Sorted(maps.Keys(rates()))
			if !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		next()
		r.again("a", "b")
		begun := time.Now()
		next("a", "b")
		r.seen("a", true)
		r.seen("b", false)
		next("a", "b")
		r.seen("b", false)
		r.seen("a", false)
		next("a", "b")
		r.seen("a", true)
		for r.due() != nil && rates()["b"] > 0 {
			<-r.due()
			r.took(0)
			r.seen("b", false)
		}
		if took := time.Since(begun); took < recoverQuiet || took > recoverQuiet+2*recoverEvery {
			t.Errorf("over after %s", took)
		}
		next("a")
		r.slow("a")
		for _, want := range []int{RecoverRate, 2 * RecoverRate, 4 * RecoverRate, RecoverMost, RecoverMost} {
			if got := rates()["a"]; got != want {
				t.Errorf("%d a second, want %d", got, want)
			}
			r.again("a") // which says nothing of its pace
			time.Sleep(RecoverTwice)
		}
		r.again("c")
		if got := rates()["a"]; got != RecoverMost/2 {
			t.Errorf("%d a second beside another, want half of them", got)
		}
		r.stop("c")
		for n := range 3 * recoverMany {
			r.again(fmt.Sprint(n))
		}
		if got := rates(); len(got) != recoverMany {
			t.Errorf("%d at once, want %d", len(got), recoverMany)
		}
		if _, ahead := r.next(); ahead != recoverAhead {
			t.Errorf("%s ahead, want %s", ahead, recoverAhead)
		}
		const rounds = 20 // until each had its turn, in the mean
		for n := range rounds * recoverMany {
			r.again(fmt.Sprint(n))
		}
		if _, ahead := r.next(); ahead < rounds*recoverEvery {
			t.Errorf("%s ahead, and each has its turn after %s", ahead, rounds*recoverEvery)
		}
		for n := range rounds * recoverMany {
			r.stop(fmt.Sprint(n))
		}
		r.slow("a")
		if got := rates()["a"]; got != RecoverRate {
			t.Errorf("%d a second once it was slow, want %d", got, RecoverRate)
		}
		for took, want := range map[time.Duration]time.Duration{time.Millisecond: recoverEvery, 50 * time.Millisecond: 10 * 50 * time.Millisecond, time.Minute: time.Minute + recoverLater} {
			begun := time.Now()
			time.Sleep(took)
			if r.took(took); r.ready() {
				t.Error("at once again")
			}
			if <-r.due(); time.Since(begun) != want {
				t.Errorf("the next %s after one that took %s, want %s", time.Since(begun), took, want)
			}
		}
		r.stop("a")
		r.seen("a", true)
		next()
	})
}

// TestPutOffDue: one that is due and cannot be had is asked for again in a while, longer each time, and those that
// are due soon after each other are asked for together.
func TestPutOffDue(t *testing.T) {
	t.Parallel()
	l := &Listener{cfg: Config{Dispatcher: dispatch.New()}, dueC: make(chan struct{}, 1)}
	for _, tt := range []struct {
		what string
		due  time.Duration
		got  int
		want time.Duration
	}{
		{"soon", dueApart / 10, 0, dueApart},
		{"later", time.Minute, 0, time.Minute},
		{"somebody has it", -time.Second, 0, dueApart},
		{"and still", -time.Second, 0, 2 * dueApart},
		{"a third time", -time.Second, 0, 4 * dueApart},
		{"for long", -time.Second, 0, dueAgain},
		{"at last", -time.Second, 1, dueApart},
	} {
		l.forgetDue()
		l.noteDue(tt.due)
		l.putOffDue(tt.got)
		// At most a moment ago: the clock went on.
		if got := time.Until(l.nextDueAt()); got > tt.want || got < tt.want-10*time.Millisecond {
			t.Errorf("%s: in %s, want %s", tt.what, got, tt.want)
		}
	}
}

// TestBehind: a destination whose answers take so long that what waits for it was put off, in whole
// or for one of its keys, gets no more for a while.
func TestBehind(t *testing.T) {
	t.Parallel()
	q := newQueue(4, 10)
	q.places["slow"] = &destination{relieved: time.Now()}
	q.places["keyed key"] = &destination{relieved: time.Now()}
	q.places["was slow"] = &destination{relieved: time.Now().Add(-behindFor)}
	for name, want := range map[string]bool{"slow": true, "keyed": true, "was slow": false, "was": false, "key": false, "new": false} {
		if got := q.behind(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
