package listener

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestMemoryBoundsWhatIsReadAhead: what is read ahead is bounded by what is
// kept of it, which is the payload until it is planned and the contents after.
func TestMemoryBoundsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	const n = 200
	small, large := bytes.Repeat([]byte("x"), 1<<10), 64<<10
	for _, tt := range []struct {
		name     string
		contents func() [][]byte // of one event
		each     int             // bytes that one keeps
	}{
		{"contents larger than the payload", func() [][]byte { return [][]byte{make([]byte, large), make([]byte, large)} }, 2 * large},
		{"one content of several deliveries", func() [][]byte { c := make([]byte, large); return [][]byte{c, c, c} }, large},
		{"nothing to send", func() [][]byte { return [][]byte{nil} }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQueue(16, 10)
			q.pace.rate = 1e9
			events := make([]*event, n)
			for i := range events {
				events[i] = &event{Event: dispatch.Event{Payload: small}}
			}
			q.claimed(events)
			if q.bytes != n*len(small) {
				t.Errorf("%d bytes of payloads, want %d", q.bytes, n*len(small))
			}
			for _, e := range events {
				var jobs []*job
				for _, c := range tt.contents() {
					jobs = append(jobs, &job{Delivery: dispatch.Delivery{Message: dispatch.Message{Content: c}}, event: e})
				}
				q.planned(e, jobs)
			}
			if q.bytes != n*tt.each {
				t.Errorf("%d bytes of contents, want %d", q.bytes, n*tt.each)
			}
			want := mostAhead
			if tt.each > 0 {
				want = aheadBytes / tt.each
			}
			if got := q.ahead(); got < want*9/10 || got > want {
				t.Errorf("%d ahead, want about %d", got, want)
			}
			for _, e := range events {
				q.settled(&e.load, true)
			}
			if q.bytes != 0 || q.held != 0 {
				t.Errorf("%d bytes of %d left of nothing", q.bytes, q.held)
			}
		})
	}
}

// TestParkedGiantIsInMemory: a giant that is parked is still kept, and counts
// as such until its deliveries are on record.
func TestParkedGiantIsInMemory(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog(), Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.recorder = newRecorder(t.Context(), l.store, l.log, l.recorded)
	ls := newLease(time.Now(), time.Minute)
	giants := []*event{{seq: 1, lease: ls}, {seq: 2, lease: ls}}
	for _, e := range giants {
		ls.events[e.seq] = e
	}
	l.take(t.Context(), ls, giants, nil)
	next := func() *event {
		l.queue.mu.Lock()
		defer l.queue.mu.Unlock()
		w, ok := l.queue.next()
		if ok {
			l.queue.planEnded()
		}
		return w.event
	}
	e := next()
	if e != giants[0] {
		t.Fatalf("first is %+v", e)
	}
	j := e.newJob(dispatch.Message{Content: make([]byte, 1<<20)}, 0)
	e.jobs, e.left, e.begun = []*job{j}, 1, time.Now().Add(-2*slow)
	l.queue.planned(e, e.jobs)
	l.park(e)
	l.recorded(l.recorder.others.take(1)[0], true)
	if other := next(); other != nil {
		t.Error("another giant is read while the parked one is kept")
	}
	l.finish(j, dispatch.Outcome{State: dispatch.Delivered, Attempts: 1})
	l.recorded(l.recorder.others.take(1)[0], true)
	if other := next(); other != giants[1] {
		t.Errorf("next is %+v, want the second giant", other)
	}
	if l.queue.bytes != 0 {
		t.Errorf("%d bytes kept of what is done", l.queue.bytes)
	}
}

// TestPayloadGoesOncePlanned: the text of the event is not kept beside what was
// made of it.
func TestPayloadGoesOncePlanned(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	l.recorder = newRecorder(t.Context(), s, l.log, l.recorded)
	l.take(t.Context(), events[0].lease, events, nil)
	for _, e := range events {
		l.begin(t.Context(), e)
		if e.Payload != nil || len(e.jobs) != 1 {
			t.Errorf("payload %q of %d deliveries", e.Payload, len(e.jobs))
		}
	}
	if l.queue.bytes != 0 {
		t.Errorf("%d bytes kept of events with nothing to send", l.queue.bytes)
	}
}

// TestGiantsAreNotStuck: where giants that wait for a slow destination have all
// the memory that there is for giants, they leave it to those behind them.
func TestGiantsAreNotStuck(t *testing.T) {
	t.Parallel()
	for _, behind := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			h := hands{t, newQueue(4, 10)}
			giants := make([]*event, 4+behind)
			for i := range giants {
				giants[i] = &event{}
			}
			h.q.claimed(giants)
			for range 4 {
				h.q.mu.Lock()
				w, ok := h.q.next()
				h.q.mu.Unlock()
				if !ok || w.event == nil {
					t.Fatal("no giant to plan")
				}
				h.q.planEnded()
				h.q.planned(w.event, []*job{{destination: "hangs", event: w.event}})
			}
			time.Sleep(10 * time.Second) // of the bubble's clock
			if out := h.q.overflow(); len(out) != 3*behind {
				t.Errorf("%d put off with %d behind them, want %d", len(out), behind, 3*behind)
			}
			h.q.takeAll()
		})
	}
}
