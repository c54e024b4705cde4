package listener

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// flightStore is a storage whose readings take a while, and follow each other.
type flightStore struct {
	storage
	inside atomic.Int32
	most   atomic.Int32
	n      atomic.Int64
}

func (s *flightStore) readFlight(context.Context) (int64, map[string]struct{}, error) {
	if n := s.inside.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.inside.Add(-1)
	n := s.n.Add(1)
	time.Sleep(100 * time.Microsecond)
	return n, map[string]struct{}{fmt.Sprint(n): {}}, nil
}

// TestOneReadingAtATime: readings of what writes are noted in the order in which they were
// taken, whoever takes them. By an older one after a newer one the newer would be settled while
// what it saw still writes.
func TestOneReadingAtATime(t *testing.T) {
	t.Parallel()
	s := &flightStore{}
	l := &Listener{store: s}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 20 {
				l.observe(t.Context())
			}
		})
	}
	wg.Wait()
	if n := s.most.Load(); n != 1 {
		t.Errorf("%d readings at once", n)
	}
}

// TestReadingOfAnotherServer: a reading that was begun before the marks were forgotten says nothing of
// the server that there is now, and none is settled that this server has not handed out.
func TestReadingOfAnotherServer(t *testing.T) {
	t.Parallel()
	var m marks
	if !m.observe(0, 0, 100, map[string]struct{}{"a": {}}) {
		t.Error("the first reading is not taken")
	}
	m.reset(10)
	if m.observe(0, 0, 100, nil) {
		t.Error("a reading of before is taken")
	}
	if !m.observe(1, 10, 100, map[string]struct{}{"a": {}}) || m.observe(1, 10, 60, nil) {
		t.Error("it matters where the sequence is")
	}
	if floor, _, _, settled := m.get(); floor != 0 || settled != 0 {
		t.Errorf("floor %d, settled %d after the sequence went back, want 0", floor, settled)
	}
	if highest, _ := m.seen(); highest != 60 {
		t.Errorf("the next look is bounded by %d, want 60", highest)
	}

	m = marks{}
	m.raise(50) // by another listener, while a reading was on its way
	if !m.observe(0, 0, 40, nil) {
		t.Error("a reading that took long counts as another server's")
	}
}
