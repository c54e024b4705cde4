package listener

import (
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		want  Rate
		apart time.Duration
		ahead time.Duration // what is made up for after a while, but for one
		fails bool
	}{
		{"", Rate{}, 0, 0, false},
		{"10/s", Rate{10, time.Second}, 100 * time.Millisecond, 400 * time.Millisecond, false},
		{"600/m", Rate{600, time.Minute}, 100 * time.Millisecond, 400 * time.Millisecond, false},
		{"1000/h", Rate{1000, time.Hour}, 3600 * time.Millisecond, 0, false},
		{"3/s", Rate{3, time.Second}, time.Second / 3, 0, false},
		{"100000/s", Rate{100000, time.Second}, 10 * time.Microsecond, 499990 * time.Microsecond, false},
		{"0/s", Rate{}, 0, 0, true},
		{"100001/s", Rate{}, 0, 0, true},
		{"-1/s", Rate{}, 0, 0, true},
		{"10", Rate{}, 0, 0, true},
		{"10/d", Rate{}, 0, 0, true},
		{"1.5/s", Rate{}, 0, 0, true},
		{" 10/s", Rate{}, 0, 0, true},
	} {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseRate(tt.text)
			if got != tt.want || err != nil != tt.fails {
				t.Fatalf("%+v, %v", got, err)
			}
			if tt.want.Count == 0 {
				return
			}
			if got.apart() != tt.apart || got.ahead() != tt.ahead || got.String() != tt.text {
				t.Errorf("%s apart, %s ahead, %q", got.apart(), got.ahead(), got)
			}
		})
	}
}

// TestReserve: however many ask, and however often, no more is given than the rate
// allows, and all of that; each key has its own.
func TestReserve(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, _, _ := pruners(t, db)
	rate := Rate{50, time.Second} // 20 ms apart, 25 at once after a while
	ask := func(key string, most int) grant {
		t.Helper()
		g, err := s.reserve(t.Context(), []wish{{key, rate, most}, {"other " + key, rate, 1}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(g) != 2 {
			t.Fatalf("%v", g)
		}
		return g[key]
	}
	if g := ask("many", 1000); g.slots != 35 || g.first.Round(time.Millisecond) != -rate.ahead() { // and 10 within the next 200 ms
		t.Errorf("the first one gets %+v", g)
	}
	if g := ask("few", 3); g.slots != 3 {
		t.Errorf("who asks for 3 gets %+v", g)
	}

	begun := time.Now()
	var mu sync.Mutex
	total, last := 0, grant{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Since(begun) < time.Second {
				g, err := s.reserve(t.Context(), []wish{{"contended", rate, 3}}, false)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				total += g["contended"].slots
				last = g["contended"]
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	most := int((took+slotKeep+rate.ahead())/rate.apart()) + 1
	if total > most || total < most-10 {
		t.Errorf("%d slots within %s, at most %d; the last were %+v", total, took, most, last)
	}

	pgtest.Exec(t, db, `update outbox.rates set asked_at = now() - interval '25 hours' where key = 'few'`)
	if _, err := s.reserve(t.Context(), []wish{{"many", rate, 1}}, true); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.rates where key = 'few'`); n != 0 {
		t.Error("a rate that nobody has asked about for a day is kept")
	}
}

// TestMeter: an attempt begins when there is a slot, not before it and not long
// after.
func TestMeter(t *testing.T) {
	t.Parallel()
	q := newQueue(16, 10)
	rate := Rate{10, time.Second}
	await := func(n int, tally *tally) {
		q.mu.Lock()
		defer q.mu.Unlock()
		for range n {
			q.await(&job{destination: "sms", rate: rate, tally: tally})
		}
	}
	await(30, nil)
	await(1, newTally())
	if _, ok := q.next(); ok {
		t.Fatal("one begins without a slot")
	}
	now := time.Now()
	all, _ := q.wishes(now)
	if len(all) != 1 || all[0] != (wish{"sms", rate, 2}) {
		t.Fatalf("it asks for %+v", all)
	}
	if again, _ := q.wishes(now); len(again) != 0 {
		t.Errorf("it asks for %+v beside", again)
	}
	q.places["sms"].window = 10
	q.granted(all, map[string]grant{"sms": {3, -200 * time.Millisecond}}, now, now)
	for i := range 3 {
		if _, ok := q.next(); !ok {
			t.Fatalf("number %d does not begin", i)
		}
	}
	if _, ok := q.next(); ok {
		t.Error("a fourth begins")
	}
	all, _ = q.wishes(time.Now())
	q.granted(all, map[string]grant{"sms": {0, 700 * time.Millisecond}}, now, time.Now())
	if all, rest := q.wishes(time.Now()); len(all) != 0 || rest < 400*time.Millisecond || rest > 500*time.Millisecond {
		t.Errorf("told to wait, it asks for %+v, and again in %s", all, rest)
	}
	q.places["sms"].meter.slots = []slot{{now, now}}
	if _, ok := q.next(); ok {
		t.Error("one begins by a slot that is over")
	}

	out := q.surplus(now)
	if len(out) != 17 || len(q.places["sms"].waiting) != 11 { // of 28 ten, and the one that somebody waits for
		t.Fatalf("%d are put off, and %d wait", len(out), len(q.places["sms"].waiting))
	}
	for i, p := range out {
		if want := rateHolds + time.Duration(i)*rate.apart(); p.wait != want {
			t.Errorf("number %d is put off for %s, want %s", i, p.wait, want)
		}
	}
}

// TestNoMeter: nothing holds back what has no rate, or is put off.
func TestNoMeter(t *testing.T) {
	t.Parallel()
	q := newQueue(16, 10)
	q.await(&job{destination: "webhook a"})
	if _, ok := q.next(); !ok {
		t.Error("it does not begin")
	}
	if all, _ := q.wishes(time.Now()); len(all) != 0 {
		t.Errorf("it asks for %+v", all)
	}
	var none map[dispatch.Channel]Rate
	if none["sms"].Count != 0 {
		t.Error("there is a rate")
	}
}
