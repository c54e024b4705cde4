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

// TestIdleHandsWidenAWindow: where nobody else wants the hands, a slow
// destination gets them, but for those that are kept.
func TestIdleHandsWidenAWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := hands{t, newQueue(16, 10)}
		ctx, cancel := context.WithCancel(t.Context())
		began := make(chan *job, 100)
		for range 16 {
			go func() {
				for {
					w, ok := h.q.pop(ctx)
					if !ok {
						return
					}
					began <- w.job
					<-ctx.Done() // an attempt without end
				}
			}()
		}
		synctest.Wait()
		h.wait("slow", 100)
		synctest.Wait()
		if n := len(began); n != firstWindow {
			t.Errorf("%d attempts at first, want %d", n, firstWindow)
		}
		time.Sleep(3 * time.Second) // of the bubble's clock
		synctest.Wait()
		if n := len(began); n != 14 {
			t.Errorf("%d attempts with nobody else about, want 14", n)
		}
		cancel()
		h.q.takeAll()
		synctest.Wait()
	})
}

// TestHandsKeptForOthers: however long one destination hangs, and however few
// workers there are, a hand is left for another, if there are two or more.
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
				ctx, cancel := context.WithCancel(t.Context())
				began := make(chan *job, 1000)
				for range tt.workers {
					go func() {
						for {
							w, ok := h.q.pop(ctx)
							if !ok {
								return
							}
							began <- w.job
							<-ctx.Done() // an attempt without end
						}
					}()
				}
				h.wait("hangs", 500)
				time.Sleep(10 * time.Second) // of the bubble's clock: its window has grown as far as it may
				synctest.Wait()
				if n := len(began); n != tt.hanging {
					t.Errorf("%d hands at the one that hangs, want %d", n, tt.hanging)
				}
				for i := range tt.others + 5 {
					h.wait(fmt.Sprint("other ", i), 1)
				}
				synctest.Wait()
				if n := len(began) - tt.hanging; n != tt.others {
					t.Errorf("%d hands at the others, want %d", n, tt.others)
				}
				cancel()
				h.q.takeAll()
				synctest.Wait()
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
