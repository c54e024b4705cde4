package listener

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// hands is a queue with jobs in it, without a listener.
type hands struct {
	t *testing.T
	q *queue
}

func (h hands) wait(destination string, n int) {
	jobs := make([]*job, n)
	for i := range jobs {
		jobs[i] = &job{destination: destination}
	}
	h.q.claimedJobs(jobs)
}

// next returns what a free hand would take, or nil.
func (h hands) next() *job {
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	w, _ := h.q.next()
	return w.job
}

// take begins as many attempts as may begin, and returns how many went where.
func (h hands) take(free int) (began map[string]int, jobs []*job) {
	began = map[string]int{}
	for range free {
		j := h.next()
		if j == nil {
			break
		}
		began[j.destination]++
		jobs = append(jobs, j)
	}
	return began, jobs
}

func (h hands) window(destination string) int {
	return h.q.places[destination].window
}

// TestWindowGrowsWithAnswers: a destination gets more hands while it answers
// and work waits for it, all but those that are kept for others, and half of
// them when it does not answer.
func TestWindowGrowsWithAnswers(t *testing.T) {
	t.Parallel()
	h := hands{t, newQueue(16, 10)}
	h.wait("a", 100)
	var got []int
	for range 5 {
		_, jobs := h.take(16)
		got = append(got, len(jobs))
		for _, j := range jobs {
			h.q.left(j, answered)
		}
	}
	if want := []int{1, 2, 4, 8, 14}; !slices.Equal(got, want) {
		t.Errorf("attempts at once: %v, want %v", got, want)
	}
	_, jobs := h.take(16)
	if len(jobs) != 14 {
		t.Errorf("%d attempts at once, want 14 and no more", len(jobs))
	}
	h.q.left(jobs[0], unanswered)
	if w := h.window("a"); w != 7 {
		t.Errorf("window of %d after no answer, want 7", w)
	}
	h.q.left(jobs[1], nothing)
	if w := h.window("a"); w != 7 {
		t.Errorf("window of %d after an attempt that was not made, want 7", w)
	}
}

// TestWindowKeepsToTheChannel: a channel's own limit is never exceeded.
func TestWindowKeepsToTheChannel(t *testing.T) {
	t.Parallel()
	h := hands{t, newQueue(16, 10)}
	jobs := make([]*job, 50)
	for i := range jobs {
		jobs[i] = &job{destination: "mail", concurrency: 3}
	}
	h.q.claimedJobs(jobs)
	for range 10 {
		began, jobs := h.take(16)
		if began["mail"] > 3 {
			t.Fatalf("%d at once, want at most 3", began["mail"])
		}
		for _, j := range jobs {
			h.q.left(j, answered)
		}
	}
}

// TestHangingDestinationKeepsFewHands: among others that answer, a destination
// that does not keeps the hands that it had, and the others have the rest.
func TestHangingDestinationKeepsFewHands(t *testing.T) {
	t.Parallel()
	h := hands{t, newQueue(16, 10)}
	h.wait("hangs", 500)
	hanging, done := 0, 0
	for range 200 {
		for n := range 20 {
			h.wait(fmt.Sprint("answers ", n), 1)
		}
		began, jobs := h.take(16 - hanging)
		hanging += began["hangs"]
		for _, j := range jobs {
			if j.destination != "hangs" {
				done++
				h.q.left(j, answered)
			}
		}
	}
	if hanging < 1 || hanging > firstWindow {
		t.Errorf("%d hands at the one that hangs, want at most %d", hanging, firstWindow)
	}
	if done < 200*14 {
		t.Errorf("%d attempts at the others, want %d", done, 200*14)
	}
}

// busy has so many hands at work until the test ends, each of which spends on a
// delivery what took says, and has the verdict that it says. It counts the
// attempts under way by destination.
func (h hands) busy(n int, took func(destination string) (time.Duration, verdict)) (flying func(destination string) int) {
	ctx, cancel := context.WithCancel(h.t.Context())
	for range n {
		go func() {
			for {
				w, ok := h.q.pop(ctx)
				if !ok {
					return
				}
				d, v := took(w.job.destination)
				wait(ctx, d)
				h.q.left(w.job, v)
			}
		}()
	}
	h.t.Cleanup(func() {
		cancel()
		h.q.takeAll()
		synctest.Wait()
	})
	return func(destination string) int {
		synctest.Wait()
		h.q.mu.Lock()
		defer h.q.mu.Unlock()
		if d := h.q.places[destination]; d != nil {
			return d.flying
		}
		return 0
	}
}

// TestIdleHandsWidenAWindow: where nobody else wants the hands, a slow
// destination gets them, but for those that are kept, once it has answered. One
// that hangs does not, before its first attempt is given up or after it.
func TestIdleHandsWidenAWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		took    time.Duration
		verdict verdict
		want    [4]bool // more than one attempt under way after a half, 3, 20 and 40 seconds
	}{
		{"it answers after two seconds", 2 * time.Second, answered, [4]bool{false, true, true, true}},
		{"it is busy, and says so at once", 50 * time.Millisecond, unanswered, [4]bool{}},
		{"it hangs", 15 * time.Second, unanswered, [4]bool{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := hands{t, newQueue(16, 10)}
				flying := h.busy(16, func(string) (time.Duration, verdict) { return tt.took, tt.verdict })
				h.wait("slow", 1000)
				begun := time.Now()
				for i, at := range []time.Duration{500 * time.Millisecond, 3 * time.Second, 20 * time.Second, 40 * time.Second} {
					time.Sleep(time.Until(begun.Add(at + time.Millisecond))) // of the bubble's clock
					n := flying("slow")
					if (n > 1) != tt.want[i] || n > 14 || at >= 20*time.Second && tt.want[i] && n != 14 {
						t.Errorf("after %s: %d attempts under way, want more than one: %t", at, n, tt.want[i])
					}
				}
			})
		})
	}
}

// TestHandsKeptForOthers: however good one destination was before it hangs, and
// however few workers there are, a hand is left for another, if there are two or
// more.
func TestHandsKeptForOthers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ workers, hanging, others int }{
		{1, 1, 0},
		{2, 1, 1},
		{3, 2, 1},
		{4, 3, 1},
		{5, 4, 1},
		{6, 5, 1},
		{7, 6, 1},
		{8, 7, 1},
		{16, 14, 2},
		{64, 56, 8},
	} {
		t.Run(fmt.Sprint(tt.workers, " workers"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := hands{t, newQueue(tt.workers, 10)}
				healthy := time.Now().Add(5 * time.Second)
				flying := h.busy(tt.workers, func(string) (time.Duration, verdict) {
					if time.Now().Before(healthy) {
						return 100 * time.Millisecond, answered
					}
					return time.Hour, unanswered
				})
				h.wait("hangs", 100*tt.workers)
				time.Sleep(10 * time.Second) // of the bubble's clock
				if n := flying("hangs"); n != tt.hanging {
					t.Errorf("%d hands at the one that hangs, want %d", n, tt.hanging)
				}
				others := 0
				for i := range tt.others + 5 {
					h.wait(fmt.Sprint("other ", i), 1)
				}
				for i := range tt.others + 5 {
					others += flying(fmt.Sprint("other ", i))
				}
				if others != tt.others {
					t.Errorf("%d hands at the others, want %d", others, tt.others)
				}
			})
		})
	}
}

// TestOverflow: what waits for a destination that does not answer leaves the
// queue when it is in the way of others, and only then.
func TestOverflow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after time.Duration // since its attempts began
		other bool          // something was sent elsewhere
		more  bool          // the table may have more, for whomever
		tally *tally        // somebody waits for the deliveries
		want  bool
	}{
		{"in the way of others", 2 * time.Second, true, false, nil, true},
		{"too early to tell", time.Second / 2, true, false, nil, false},
		{"nobody else is about", 2 * time.Second, false, false, nil, false},
		{"others may be behind it", 2 * time.Second, false, true, nil, true},
		{"somebody waits for them", 2 * time.Second, true, false, newTally(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := hands{t, newQueue(16, 10)}
				jobs := make([]*job, 30)
				for i := range jobs {
					jobs[i] = &job{destination: "hangs", tally: tt.tally}
				}
				h.q.claimedJobs(jobs)
				h.take(16)
				time.Sleep(tt.after) // of the bubble's clock
				if tt.other {
					h.wait("answers", 1)
					_, jobs := h.take(1)
					h.q.left(jobs[0], answered)
				}
				h.q.looked(tt.more)
				out := h.q.overflow()
				if again := h.q.overflow(); len(again) > 0 {
					t.Errorf("%d put off at once again", len(again))
				}
				if (len(out) == 29) != tt.want || !tt.want && len(out) > 0 {
					t.Errorf("%d put off of 29 that wait, want all: %t", len(out), tt.want)
				}
				for _, p := range out {
					if p.wait < firstPutOff/2 || p.wait > firstPutOff {
						t.Errorf("put off for %s", p.wait)
					}
				}
				h.q.takeAll()
			})
		})
	}
}

// TestPace: what is read ahead follows what gets done.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pace
		if n := p.ahead(); n != 0 {
			t.Errorf("before anything was done: %d ahead", n)
		}
		for range 200 { // 10,000 a second for a second
			time.Sleep(5 * time.Millisecond)
			p.done(50)
		}
		if n := p.ahead(); n < 400 || n > 600 {
			t.Errorf("at 10,000 a second: %d ahead, want about 500", n)
		}
		for range 200 {
			time.Sleep(5 * time.Millisecond)
			p.done(5000)
		}
		if n := p.ahead(); n != mostAhead {
			t.Errorf("at a million a second: %d ahead, want %d", n, mostAhead)
		}
		time.Sleep(time.Minute)
		p.done(1)
		p.done(1)
		for range 12 {
			time.Sleep(time.Second)
			p.done(1)
		}
		if n := p.ahead(); n > 2 {
			t.Errorf("at one a second: %d ahead", n)
		}
	})
}
