package listener

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// seqsOf are the numbers of what claims brought, in order, each as often as it came.
func seqsOf(claims []claimed) (seqs []int64) {
	for _, c := range claims {
		for _, e := range c.events {
			seqs = append(seqs, e.seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

func numbers(from, to int64) (out []int64) {
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}

// TestClaimRange: once a claim was full and no number was missing, the next ones take
// what lies behind it by its numbers, each under its own claim and no more than was asked for, and
// what they find otherwise is claimed as ever.
func TestClaimRange(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 40)`)
	pgtest.Exec(t, db, `delete from outbox_events where seq = 36`)
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq = 37`) // it was given back
	s := &store{pool: db.Pool, lease: time.Minute}
	for _, step := range []struct {
		lower        int64
		limit, times int
		want         []int64
		dense        int64
		full         bool
	}{
		{0, 10, 1, numbers(1, 10), 10, true},
		{10, 7, 3, numbers(11, 31), 31, true},
		{31, 2, 3, []int64{32, 33, 34, 35, 37, 38}, 0, true},
		{38, 2, 2, []int64{39, 40}, 0, false},
	} {
		claims, full, err := s.claimEvents(t.Context(), step.lower, top, step.limit, step.times)
		if err != nil {
			t.Fatal(err)
		}
		if got := seqsOf(claims); !slices.Equal(got, step.want) || full != step.full || s.dense.Load() != step.dense {
			t.Fatalf("behind %d: %v, full %t, goes on behind %d; want %+v", step.lower, got, full, s.dense.Load(), step)
		}
		for _, c := range claims {
			if len(c.events) > step.limit {
				t.Errorf("%d events under one claim, at most %d are to be", len(c.events), step.limit)
			}
			for _, e := range c.events {
				if e.again != (e.seq == 37) || e.lease != c.lease || c.lease.events[e.seq] != e || string(e.Payload) != "{}" || e.Type != "greeting" {
					t.Errorf("event %d: %+v", e.seq, e)
				}
				if got := pgtest.QueryVal[[16]byte](t, db, `select claim from outbox_events where seq = $1`, e.seq); got != c.lease.claim {
					t.Errorf("event %d is under another claim", e.seq)
				}
			}
		}
	}
}

// TestClaimRangeGoesAroundLocks: what somebody has locked keeps nobody from its
// neighbours, and no claim waits for it for longer than a moment.
func TestClaimRangeGoesAroundLocks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 30)`)
	s := &store{pool: db.Pool, lease: time.Minute}
	s.dense.Store(10)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select from outbox_events where seq = 15 for update`); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	claims, _, err := s.claimEvents(t.Context(), 10, top, 10, 1)
	if err != nil || !slices.Equal(seqsOf(claims), append(numbers(11, 14), numbers(16, 21)...)) {
		t.Errorf("claimed %v, %v", seqsOf(claims), err)
	}
	if took := time.Since(begun); took > 900*time.Millisecond { // lock_timeout of settings is a second
		t.Errorf("it took %s", took)
	}
	// The next ones do not try whether others are locked.
	if claims, full, err := s.claimEvents(t.Context(), 21, top, 2, 1); err != nil || !full || len(claims) != 1 || s.dense.Load() != 0 {
		t.Errorf("then %d claims, %v; the next one goes on behind %d", len(claims), err, s.dense.Load())
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction (aborted)'`); n != 0 {
		t.Error("a connection is left in a transaction that failed")
	}
}

// TestClaimRangeHalfDone: where a claim by numbers stands and what was to bring the rest fails, what
// came is worked on, and what did not is not passed over.
func TestClaimRangeHalfDone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 20)`)
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq between 11 and 16`) // given back
	k, _ := boundedLooker(t, db)
	k.rescan = time.Now().Add(time.Hour) // it goes on where it was
	if n, _, err := k.look(t.Context(), 10, 10, nil); err != nil || n != 10 {
		t.Fatalf("%d events, %v", n, err)
	}
	pgtest.Exec(t, db, `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$`)
	pgtest.Exec(t, db, `create trigger refuse before update on outbox_events for each row when (old.seq between 11 and 16) execute function refuse()`)
	if n, _, err := k.look(t.Context(), 10, 10, nil); err == nil || n != 4 {
		t.Fatalf("%d events and %v, want four and an error", n, err)
	}
	if _, _, cursor, _ := k.l.marks.get(); cursor != 10 {
		t.Errorf("the next look begins at %d", cursor)
	}
	pgtest.Exec(t, db, `drop trigger refuse on outbox_events`)
	if n, _, err := k.look(t.Context(), 10, 10, nil); err != nil || n != 6 {
		t.Fatalf("%d events, %v", n, err)
	}
	if held := k.l.queue.holds(); held != 20 {
		t.Errorf("%d events are held, of 20", held)
	}
}

// TestClaimRangeWithGaps: numbers that were rolled back do not end it, and what of its numbers was
// claimed before comes along, so that nothing is passed over.
func TestClaimRangeWithGaps(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 400)`)
	pgtest.Exec(t, db, `delete from outbox_events where seq % 20 = 0`)
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq % 100 = 77`)                                                      // given back
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 hour' where seq % 100 = 50`) // somebody's
	s := &store{pool: db.Pool, lease: time.Minute}
	var all []int64
	byNumbers := 0
	for lower, full := int64(0), true; full; {
		if lower > 0 && s.dense.Load() == lower {
			byNumbers++
		}
		claims, more, err := s.claimEvents(t.Context(), lower, top, 8, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range claims {
			if len(c.events) > 8 {
				t.Errorf("%d events under one claim, at most 8 are to be", len(c.events))
			}
			for _, e := range c.events {
				if e.again != (e.seq%100 == 77) {
					t.Errorf("event %d was claimed before: %t", e.seq, e.again)
				}
			}
		}
		got := seqsOf(claims)
		if full = more; len(got) > 0 && got[0] <= lower {
			t.Fatalf("behind %d came %v", lower, got)
		}
		all, lower = append(all, got...), max(lower, highest(claims))
	}
	want := slices.DeleteFunc(numbers(1, 400), func(n int64) bool { return n%20 == 0 || n%100 == 50 })
	if !slices.Equal(all, want) {
		t.Errorf("claimed %v, want %v", all, want)
	}
	if byNumbers < 5 {
		t.Errorf("%d claims went by numbers", byNumbers)
	}
}

// TestClaimRangeBesideAnother: of two listeners that claim the same numbers each event goes to one.
func TestClaimRangeBesideAnother(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const n, limit, times = 2000, 25, 4
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(0, $1::int)`, n)
	var mu sync.Mutex
	var all []int64
	var wg sync.WaitGroup
	for range 2 {
		s := &store{pool: db.Pool, lease: time.Minute}
		wg.Go(func() {
			for lower := int64(1); lower < n; lower += limit * times {
				for again := true; again; {
					s.dense.Store(lower)
					claims, _, err := s.claimEvents(t.Context(), lower, lower+limit*times, limit, times)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					all = append(all, seqsOf(claims)...)
					mu.Unlock()
					again = len(claims) > 0
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	if !slices.Equal(all, numbers(2, n+1)) {
		t.Errorf("%d claimed, of %d", len(all), n)
	}
}
