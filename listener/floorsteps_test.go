package listener

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// floorStore notes up to where the floor is to be raised.
type floorStore struct {
	storage
	highest int64
	upTo    []int64
}

func (s *floorStore) readFlight(context.Context) (int64, map[string]struct{}, error) {
	return s.highest, map[string]struct{}{}, nil
}

func (s *floorStore) raiseFloor(_ context.Context, upTo int64) (int64, error) {
	s.upTo = append(s.upTo, upTo)
	return upTo, nil
}

// TestFloorInSteps: what was processed above an event that held the floor for long is walked
// over in steps that the server is done with in time.
func TestFloorInSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const many = 3*floorStep + 1
		s := &floorStore{highest: many}
		l := &Listener{store: s, log: quietLog(), sparse: newSparse(quietLog())}
		l.marks.looked(0, top, many, false, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l.keepMarks(ctx)
		at := int64(0)
		for _, upTo := range s.upTo {
			if upTo-at > floorStep {
				t.Errorf("raised from %d to %d at once", at, upTo)
			}
			at = upTo
		}
		if at != many || len(s.upTo) != 4 {
			t.Errorf("raised to %v, want to %d in four steps", s.upTo, int64(many))
		}
	})
}
