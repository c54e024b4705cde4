package listener

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestFinishedDeliveryWaitsForTheParking: a delivery that ends while its event
// is being parked is recorded after that, since until then the ledger has no
// row of it; also when the parking is put off because its row is locked.
func TestFinishedDeliveryWaitsForTheParking(t *testing.T) {
	t.Parallel()
	log := quietLog()
	l := &Listener{log: log, sparse: newSparse(log), queue: newQueue(4, 10), store: &store{lease: time.Minute}, dueC: make(chan struct{}, 1)}
	l.batch.log = log
	l.leases = &leases{store: l.store, log: log, sparse: l.sparse, all: map[*lease]struct{}{}}
	l.recorder = newRecorder(t.Context(), nil, log, l.recorded)
	ls := newLease(time.Now(), time.Minute)
	e := &event{lease: ls, seq: 1, begun: time.Now().Add(-2 * slow), left: 1}
	ls.events[1] = e
	j := e.newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c"}, 0)
	e.jobs = []*job{j}

	l.park(e)
	parking := l.recorder.others.take(1)
	if len(parking) != 1 || parking[0].event != e {
		t.Fatalf("parked as %+v", parking)
	}
	l.finish(j, dispatch.Outcome{State: dispatch.Delivered, Attempts: 1})
	if early := l.recorder.others.take(1); len(early) != 0 {
		t.Fatalf("recorded before the parking: %+v", early)
	}
	l.recorded(parking[0], true)
	if got := l.recorder.others.take(1); len(got) != 1 || got[0].job != j {
		t.Fatalf("recorded after the parking: %+v, want the delivery", got)
	}
}

// TestTroubleOfOneWriter: while one batch cannot be written outcomes are not
// being recorded, whatever another writer succeeds with.
func TestTroubleOfOneWriter(t *testing.T) {
	t.Parallel()
	r := newRecorder(t.Context(), nil, quietLog(), nil)
	broken := true
	tried := make(chan struct{})
	r.insist([]entry{{event: &event{}}}, func(context.Context, []entry) error {
		if !broken {
			return nil
		}
		broken = false
		go func() {
			defer close(tried)
			for !r.failing() {
				time.Sleep(time.Millisecond) // until insist has noted it
			}
			r.insist([]entry{{event: &event{}}}, func(context.Context, []entry) error { return nil })
			if !r.failing() {
				t.Error("another writer's success ended the trouble")
			}
		}()
		return errors.New("no")
	})
	<-tried
	if r.failing() {
		t.Error("still failing after all is written")
	}
}

// TestOneEventTwice: of an event that was claimed twice each outcome is judged
// by its own claim, one after the other.
func TestOneEventTwice(t *testing.T) {
	t.Parallel()
	a, b, c := &event{seq: 1}, &event{seq: 2}, &event{seq: 1}
	var got [][]int64
	newRecorder(t.Context(), nil, quietLog(), nil).insist([]entry{{event: a}, {event: b}, {event: c}}, func(_ context.Context, entries []entry) error {
		var seqs []int64
		for _, en := range entries {
			seqs = append(seqs, en.event.seq)
		}
		got = append(got, seqs)
		return nil
	})
	if len(got) != 2 || len(got[0]) != 2 || len(got[1]) != 1 || got[1][0] != 1 {
		t.Errorf("written as %v, want [[1 2] [1]]", got)
	}
}

// TestNotBegunKeepsWhatIsUnclear: an attempt whose sender never came back is
// not made to look as if it had never been made.
func TestNotBegunKeepsWhatIsUnclear(t *testing.T) {
	t.Parallel()
	for state, want := range map[dispatch.State]dispatch.State{
		"": dispatch.Ready, dispatch.Ready: dispatch.Ready, dispatch.Retry: dispatch.Ready, dispatch.Sending: dispatch.Sending,
	} {
		if o := (&job{state: state, attempts: 2}).notBegun(time.Second); o.State != want || o.Attempts != 2 || o.MinWait != time.Second {
			t.Errorf("from %q: %+v, want %s", state, o, want)
		}
	}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestRecordLate: a write that has no answer for two seconds counts as one that fails,
// until it has; what a lock may take does not.
func TestRecordLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		took time.Duration
		want bool
	}{{time.Second, false}, {1900 * time.Millisecond, false}, {2100 * time.Millisecond, true}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRecorder(t.Context(), nil, quietLog(), nil)
			during := false
			r.insist([]entry{{event: &event{}}}, func(context.Context, []entry) error {
				time.Sleep(tt.took) // of the fake clock
				during = r.failing()
				return nil
			})
			if during != tt.want {
				t.Errorf("failing after %s: %t, want %t", tt.took, during, tt.want)
			}
			time.Sleep(time.Minute)
			if r.failing() {
				t.Errorf("still failing after one of %s was written", tt.took)
			}
		})
	}
}

// nobodyKnows is a storage that has no locked rows to tell.
type nobodyKnows struct{ storage }

func (nobodyKnows) busyEvents(context.Context, []entry) (map[int64]bool, error) { return nil, nil }

// TestStepAroundMeetsAnOutage: what fails by itself, and not since somebody has locked
// it, is written by insist, which knows then that the database is away.
func TestStepAroundMeetsAnOutage(t *testing.T) {
	t.Parallel()
	r := newRecorder(t.Context(), nobodyKnows{}, quietLog(), nil)
	var wrote []int64
	away, troubled := 3, false
	r.insist([]entry{{event: &event{seq: 1}}, {event: &event{seq: 2}}, {event: &event{seq: 3}}}, func(_ context.Context, entries []entry) error {
		switch {
		case len(entries) == 3:
			return &pgconn.PgError{Code: "55P03"}
		case entries[0].event.seq == 2 && away > 0:
			away--
			troubled = troubled || r.failing()
			return errors.New("connection refused")
		}
		for _, en := range entries {
			wrote = append(wrote, en.event.seq)
		}
		return nil
	})
	if !slices.Equal(wrote, []int64{1, 2, 3}) || !troubled || r.failing() {
		t.Errorf("written %v, known to fail meanwhile %t, still %t", wrote, troubled, r.failing())
	}
}
