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

func boundedLooker(t *testing.T, db *pgtest.DB) (*looker, *boundedStore) {
	t.Helper()
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog(), Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	bounded := &boundedStore{storage: l.store}
	l.store = bounded
	return &looker{l: l}, bounded
}

// within fails unless each look had so many numbers to look at and no more, of which the
// highest is last.
func (s *boundedStore) within(t *testing.T, last int64) {
	t.Helper()
	for i, at := range s.looks {
		if min(at[1], last)-at[0] > walkStep {
			t.Errorf("look %d is at %d to %d, of %d", i+1, at[0], at[1], last)
		}
	}
}

// observe reads the transactions in flight twice, after which what is visible is settled.
func (k *looker) observe(t *testing.T) {
	t.Helper()
	for range 2 {
		highest, inFlight, err := k.l.store.readFlight(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		k.l.marks.observe(k.l.marks.era, k.l.marks.settled, highest, inFlight)
	}
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
	k, bounded := boundedLooker(t, db)
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
	if bounded.within(t, many+1); len(bounded.looks) < 5 {
		t.Errorf("looks at %v: this test shows nothing", bounded.looks)
	}

	// The mark is where the floor is, since nothing was settled yet. It comes along in
	// steps as well, and then one look has all that is new.
	k.observe(t)
	k.walk.fetch.took = 0
	for looks, exact := 1, false; !exact; looks++ {
		var err error
		if _, exact, err = k.look(t.Context(), 10, 10, nil); err != nil || looks > 20 {
			t.Fatalf("look %d after the walk: %v", looks, err)
		}
		k.walk.fetch.took = 0
	}
	bounded.within(t, many+1)

	// The next walk begins when the last one is a while ago, by what that took, and then with
	// what came since in it.
	k.walk.swept = stint{time.Hour, time.Now()}
	again := func() {
		t.Helper()
		if err := k.sweepEvents(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.look(t.Context(), 10, 10, nil); err != nil {
			t.Fatal(err)
		}
	}
	if again(); k.walk.on {
		t.Error("walking again at once")
	}
	k.walk.swept.took = 0
	if again(); !k.walk.on || k.walk.end <= many {
		t.Errorf("not walking: %+v", k.walk)
	}
}

// TestWalkBehindAWriter: a transaction that wrote and stays open keeps the mark where it is,
// while many events pass. Each look is bounded all the same, what is new comes at once, and
// so does what a walk finds that committed late.
func TestWalkBehindAWriter(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `insert into outbox_events (type, payload) values ('late', '{}')`); err != nil {
		t.Fatal(err)
	}
	const many = 3*walkStep + 10
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'x', '{}', now() from generate_series(2, $1::int)`, many)
	pgtest.Exec(t, db, `vacuum analyze outbox_events`)
	k, bounded := boundedLooker(t, db)
	if err := k.sweepEvents(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	look := func() int {
		t.Helper()
		n, exact, err := k.look(t.Context(), 10, 10, nil)
		if err != nil || exact || len(bounded.looks) > 50 {
			t.Fatalf("look %d: exact %t, %v", len(bounded.looks), exact, err)
		}
		return n
	}
	for k.walk.on {
		look()
	}
	k.observe(t)
	k.walk.fetch = stint{time.Hour, time.Now()}
	if n := look(); n != 0 || !k.behind {
		t.Errorf("with nothing new: %d events, behind %t", n, k.behind)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('new', '{}')`)
	if n := look(); n != 1 {
		t.Errorf("the first look after an insert brought %d events, want 1", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := look(); n != 0 {
		t.Errorf("what committed late came without a walk: this test shows nothing")
	}
	k.walk.fetch.took = 0
	late := 0
	for late += look(); k.walk.on; {
		late += look()
	}
	if late != 1 {
		t.Errorf("a walk brought %d events, want the one that committed late", late)
	}
	bounded.within(t, many+1)
}

// TestBoundsBesideAWriter: where a writer that stays open drew more numbers than one look
// has, what is above them is looked at all the same, and the mark is not forgotten.
func TestBoundsBesideAWriter(t *testing.T) {
	t.Parallel()
	k := &looker{l: &Listener{}}
	k.l.marks.observe(k.l.marks.era, k.l.marks.settled, walkStep+walkStep/2, map[string]struct{}{"w": {}})
	lower, upper, _ := k.bounds(time.Now())
	if lower != 0 || upper != walkStep {
		t.Fatalf("the first look is at %d to %d", lower, upper)
	}
	k.l.marks.looked(lower, upper, lower, false, 0)
	if lower, upper, walking := k.bounds(time.Now()); !walking || !k.walk.late || lower != 0 || upper != walkStep {
		t.Errorf("then one at %d to %d, walking %t", lower, upper, walking)
	}
	k.walk.looked(upper, 0, false, false, time.Hour)
	if lower, upper, walking := k.bounds(time.Now()); walking || lower != walkStep || upper != top {
		t.Errorf("then one at %d to %d, walking %t", lower, upper, walking)
	}
}

// TestWalkOfAnotherServer: a walk does not go on to numbers that were never handed out, once
// the marks turn out to be of another server.
func TestWalkOfAnotherServer(t *testing.T) {
	t.Parallel()
	k := &looker{l: &Listener{}}
	k.l.marks.looked(0, top, 9*walkStep, false, 0)
	k.walk.start(false, 0, 9*walkStep)
	k.bounds(time.Now())
	k.l.marks.reset(0)
	if _, upper, _ := k.bounds(time.Now()); upper != top || k.walk.end != 0 {
		t.Errorf("the walk goes on to %d, the look to %d", k.walk.end, upper)
	}
}

// TestWalkGoesOn: a step that fails is not all that is tried from there on.
func TestWalkGoesOn(t *testing.T) {
	t.Parallel()
	var w walk
	w.owed = true
	w.begin(0, 2*walkStep)
	k := &looker{l: &Listener{}, walk: w}
	if _, _, walking := k.bounds(time.Now()); !walking {
		t.Fatal("no step of the walk")
	}
	k.l.store = failingStore{}
	if _, _, err := k.look(t.Context(), 1, 1, nil); err == nil {
		t.Fatal("no error")
	}
	if _, _, walking := k.bounds(time.Now()); walking {
		t.Error("the step that failed is next once more")
	}
}

type failingStore struct{ storage }

func (failingStore) claimEvents(context.Context, int64, int64, int, int) ([]claimed, bool, error) {
	return nil, false, context.DeadlineExceeded
}
