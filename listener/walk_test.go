package listener

import (
	"context"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// boundedStore notes between which numbers claims look.
type boundedStore struct {
	storage
	looks [][2]int64
}

func (s *boundedStore) claimEvents(ctx context.Context, lower, upper int64, limit, times int) ([]claimed, bool, error) {
	s.looks = append(s.looks, [2]int64{lower, upper})
	return s.storage.claimEvents(ctx, lower, upper, limit, times)
}

// TestWalk: one event that holds the floor, below many that are processed, keeps nothing
// that is new back: each statement has so many numbers to look at and no more, what is new
// comes after the first of them, and a lease that ran out in the middle is found by the walk.
func TestWalk(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const many = 4*walkStep + 10
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at)
		select 'x', '{}', case when n not in (1, $2) then now() end from generate_series(1, $1::int) as n`, many, 2*walkStep)
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = 'infinity' where seq = 1`) // somebody has it
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = now() - interval '1 minute' where seq = $1`, 2*walkStep)
	pgtest.Exec(t, db, `vacuum analyze outbox_events`)
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog(), Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	bounded := &boundedStore{storage: l.store}
	l.store = bounded
	k := &looker{l: l}
	if err := k.sweepEvents(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if k.walk.end != many {
		t.Fatalf("the walk ends at %d, want %d", k.walk.end, many)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('new', '{}')`)
	var found []int // after how many looks each of the two was
	for looks := 1; k.walk.on; looks++ {
		n, exact, err := k.look(t.Context(), 10, 10, nil)
		if err != nil || exact && k.walk.on || looks > 20 {
			t.Fatalf("look %d: exact %t, %v", looks, exact, err)
		}
		for range n {
			found = append(found, looks)
		}
	}
	if len(found) != 2 || found[0] != 2 {
		t.Errorf("found by the looks %v, want the new one by the second, and the other later", found)
	}
	for i, at := range bounded.looks {
		if at[0] < many-walkStep && at[1]-at[0] > walkStep {
			t.Errorf("look %d is at %d to %d", i+1, at[0], at[1])
		}
	}
	if len(bounded.looks) < 5 {
		t.Errorf("looks at %v: this test shows nothing", bounded.looks)
	}
	if _, exact, err := k.look(t.Context(), 10, 10, nil); err != nil || !exact {
		t.Errorf("when the walk is over: exact %t, %v", exact, err)
	}

	// The next walk begins when the last one is a while ago, by what that took, and then with
	// what came since in it.
	k.walk.took = time.Hour
	if err := k.sweepEvents(t.Context(), false); err != nil || k.walk.on {
		t.Errorf("walking again at once, %v", err)
	}
	k.walk.took = 0
	if err := k.sweepEvents(t.Context(), false); err != nil || !k.walk.on || k.walk.end <= many {
		t.Errorf("not walking: %+v, %v", k.walk, err)
	}
}
