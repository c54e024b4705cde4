package listener

import (
	"slices"
	"sync"
	"testing"
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
	const many = RecoverRate + RecoverRate/2
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
			n, more, err := s.resumeBraked(t.Context(), HeldBy("there"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if total += n; more {
				mores++
			}
		})
	}
	wg.Wait()
	const step = RecoverRate / 20 // the first of each is due at once, and counts no more
	if total < RecoverRate || total > RecoverRate+2*step || mores != 3 {
		t.Errorf("three made %d due, of which %d know of more, want %d and 3", total, mores, RecoverRate)
	}
	steps := pgtest.QueryVals[int](t, db, `select count(*) from outbox.deliveries where due_at < now() + interval '2 minutes' group by due_at order by due_at`)
	if len(steps) < 20 || slices.Max(steps) != step {
		t.Errorf("by steps: %v", steps)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_seq <= 2 and due_at < now() + interval '2 minutes'`); n != 0 {
		t.Errorf("%d are due that wait for something else, or that somebody has", n)
	}
	// The rest, when these have left.
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = null where due_at < now() + interval '2 minutes'`)
	if n, more, err := s.resumeBraked(t.Context(), HeldBy("there")); n != many-total || more || err != nil {
		t.Errorf("then %d, more %t, %v", n, more, err)
	}
}

// TestRecovery: a destination is seen to once a second until nothing was left twice, and no
// more once it is braked again.
func TestRecovery(t *testing.T) {
	t.Parallel()
	var r recovery
	next := func(soon bool, want ...string) {
		t.Helper()
		got := r.next(soon)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	next(true)
	r.again("a", "b")
	next(true, "a", "b")
	r.seen("a", true)
	r.seen("b", false)
	next(false)
	next(true, "a", "b")
	r.seen("a", false)
	r.seen("b", false) // twice
	next(true, "a")
	r.stop("a")
	r.seen("a", true)
	next(true)

	r.last = time.Time{}
	r.again("c")
	next(false, "c")
}

// TestPutOffDue: one that is due and cannot be had is asked for again in a while, and those that are
// due soon after each other together.
func TestPutOffDue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ due, want time.Duration }{
		"somebody has it": {-time.Second, dueAgain},
		"soon":            {dueApart / 10, dueApart},
		"later":           {time.Minute, time.Minute},
	} {
		l := &Listener{cfg: Config{Dispatcher: dispatch.New()}, dueC: make(chan struct{}, 1)}
		l.noteDue(tt.due)
		l.putOffDue()
		if got := time.Until(l.nextDueAt()); got > tt.want || got < tt.want-10*time.Millisecond {
			t.Errorf("%s: in %s, want %s", name, got, tt.want)
		}
	}
}
