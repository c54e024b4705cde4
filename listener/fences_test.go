package listener

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// due puts a delivery of one attempt that is due into the ledger.
func due(t *testing.T, db *pgtest.DB) {
	t.Helper()
	pgtest.Exec(t, db, `with e as (
			insert into outbox_events (type, payload, lease_until, claim) values ('greeting', '{}', 'infinity', gen_random_uuid()) returning *)
		insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, content)
		select gen_random_uuid(), id, seq, type, created_at, 'r', 's', 'c', '', 'retry', 1, now(), '{}' from e`)
}

// TestAnnouncedAgainUnderItsClaim: a delivery that is in the ledger already, and
// was taken over, is announced by its holder alone.
func TestAnnouncedAgainUnderItsClaim(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	due(t, db)
	s := &store{pool: db.Pool, lease: time.Minute}
	var held []*job
	for range 2 {
		_, jobs, err := s.claimDue(t.Context(), 10)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("claimed %d, %v", len(jobs), err)
		}
		held = append(held, jobs[0])
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second'`) // its lease has run out
	}
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() + interval '1 minute'`)
	for i, want := range []announced{refused, committed} {
		an := announcement{job: held[i], ok: make(chan announced, 1)}
		newAnnouncer(t.Context(), s, quietLog()).write([]announcement{an})
		if got := <-an.ok; got != want {
			t.Errorf("holder %d: %d, want %d", i+1, got, want)
		}
	}
}

// TestAnnouncedWhileEnoughIsLeft: what would not be begun any more once it is on record, since its lease is about to
// run out, does not stand as being sent: whoever takes it next would have to take it for sent.
func TestAnnouncedWhileEnoughIsLeft(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := &store{pool: db.Pool, lease: time.Minute}
	due(t, db)
	_, again, err := s.claimDue(t.Context(), 1)
	if err != nil || len(again) != 1 {
		t.Fatalf("claimed %d, %v", len(again), err)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
	claims, _, err := s.claimEvents(t.Context(), 0, top, 1, 1)
	if err != nil || len(claims) != 1 {
		t.Fatalf("claims %d, %v", len(claims), err)
	}
	e := claims[0].events[0]
	fresh := &job{Delivery: dispatch.Delivery{ID: uuid.New(), EventID: e.ID, Date: e.CreatedAt, Type: e.Type}, seq: e.seq, lease: e.lease, event: e}
	for _, tt := range []struct {
		left string
		want bool
	}{{"1 second", false}, {"30 seconds", true}} {
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() + $1::interval`, tt.left)
		pgtest.Exec(t, db, `update outbox_events set lease_until = now() + $1::interval where seq = $2`, tt.left, e.seq)
		kept, err := s.announce(t.Context(), []announcement{{job: again[0]}, {job: fresh}})
		if err != nil || kept[again[0].ID] != tt.want || kept[fresh.ID] != tt.want {
			t.Errorf("with %s left: again %t, new %t, %v; want %t", tt.left, kept[again[0].ID], kept[fresh.ID], err, tt.want)
		}
	}
}

// losesAnswers is a store that commits one announcement without saying so, after which little is left of the lease.
type losesAnswers struct {
	storage
	lost bool
	then func()
}

func (s *losesAnswers) announce(ctx context.Context, batch []announcement) (map[uuid.UUID]bool, error) {
	kept, err := s.storage.announce(ctx, batch)
	if s.lost || err != nil {
		return kept, err
	}
	s.lost = true
	s.then()
	return nil, context.DeadlineExceeded
}

// TestAnnouncedWithoutAnAnswer: an announcement that may be on record, and is refused when it is made again, since too
// little is left of its lease, does not count as if nobody had heard of it: its record takes it back.
func TestAnnouncedWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	real := &store{pool: db.Pool, lease: time.Minute}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
	claims, _, err := real.claimEvents(t.Context(), 0, top, 1, 1)
	if err != nil || len(claims) != 1 {
		t.Fatalf("claims %d, %v", len(claims), err)
	}
	e := claims[0].events[0]
	j := &job{Delivery: dispatch.Delivery{ID: uuid.New(), EventID: e.ID, Date: e.CreatedAt, Type: e.Type}, seq: e.seq, lease: e.lease, event: e}
	s := &losesAnswers{storage: real, then: func() {
		pgtest.Exec(t, db, `update outbox_events set lease_until = now() + interval '1 second'`)
	}}
	an := announcement{job: j, ok: make(chan announced, 1)}
	newAnnouncer(t.Context(), s, quietLog()).write([]announcement{an})
	if got := <-an.ok; got != unclear {
		t.Errorf("%d, want %d: it is on record", got, unclear)
	}
	if state := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries`); state != "sending" {
		t.Errorf("it is %s: this test shows nothing", state)
	}
}

// TestClaimsPassOverLocks: what somebody else has locked keeps nobody from its
// neighbours, and no claim waits for it.
func TestClaimsPassOverLocks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	due(t, db)
	due(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 2)`)
	s := &store{pool: db.Pool, lease: time.Minute}
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	for _, lock := range []string{
		`select from outbox_events where lease_until is null order by seq limit 1 for update`,
		`select from outbox.deliveries order by due_at limit 1 for update`,
	} {
		if _, err := tx.Exec(t.Context(), lock); err != nil {
			t.Fatal(err)
		}
	}
	if claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1); err != nil || len(claims) != 1 || len(claims[0].events) != 1 {
		t.Errorf("claims of events: %+v, %v; want one event of two", claims, err)
	}
	if _, jobs, err := s.claimDue(t.Context(), 10); err != nil || len(jobs) != 1 {
		t.Errorf("%d deliveries, %v; want one of two", len(jobs), err)
	}
}

// TestAdoptedAsItIs: what is taken over while its former holder is writing is
// adopted as he leaves it, and not as it was before: an SMS that he has announced
// meanwhile would be sent a second time.
func TestAdoptedAsItIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		write    string
		state    dispatch.State
		attempts int
	}{
		{"announced", `state = 'sending', attempts = 1`, dispatch.Sending, 1},
		{"delivered", `state = 'delivered', attempts = 1, finished_at = now(), due_at = null`, dispatch.Delivered, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, events := claimTwo(t, db)
			e := events[0]
			j := e.newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c"}, 0)
			pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, content)
				select $2, id, seq, type, created_at, 'r', 's', 'c', '', 'ready', 0, now(), '{}' from outbox_events where seq = $1`, e.seq, j.ID)
			if _, jobs, err := s.claimDue(t.Context(), 10); err != nil || len(jobs) != 1 {
				t.Fatalf("claimed %d, %v", len(jobs), err)
			}
			type answer struct {
				known []known
				err   error
			}
			var got answer
			for range 10 { // who waits for a lock gives up after a second
				tx, err := db.Pool.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback(context.Background())
				if _, err := tx.Exec(t.Context(), `update outbox.deliveries set `+tt.write+` where id = $1`, j.ID); err != nil {
					t.Fatal(err)
				}
				adopted := make(chan answer, 1)
				go func() {
					k, err := s.adopt(t.Context(), e)
					adopted <- answer{k, err}
				}()
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
					n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
					return n == 1 || len(adopted) == 1, "nobody waits for the row"
				})
				end := tx.Commit
				if len(adopted) == 1 {
					end = tx.Rollback
				}
				if err := end(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got = <-adopted; !isLocked(got.err) {
					break
				}
				pgtest.Exec(t, db, `update outbox.deliveries set state = 'ready', attempts = 0, finished_at = null where id = $1`, j.ID)
			}
			if got.err != nil || len(got.known) != 1 {
				t.Fatalf("adopted %d, %v", len(got.known), got.err)
			}
			if k := got.known[0]; k.state != tt.state || k.attempts != tt.attempts {
				t.Errorf("adopted as %s after %d attempts; it is %s after %d", k.state, k.attempts, tt.state, tt.attempts)
			}
		})
	}
}

// TestAdoptedIsFenced: of what was taken over with its event, its former holder
// announces and records nothing more.
func TestAdoptedIsFenced(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	e := events[0]
	id := e.newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c"}, 0).ID
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, content)
		select $2, id, seq, type, created_at, 'r', 's', 'c', '', 'ready', 0, now(), '{}' from outbox_events where seq = $1`, e.seq, id)
	_, jobs, err := s.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("claimed %d, %v", len(jobs), err)
	}
	if k, err := s.adopt(t.Context(), e); err != nil || len(k) != 1 {
		t.Fatalf("adopted %d, %v", len(k), err)
	}
	an := announcement{job: jobs[0], ok: make(chan announced, 1)}
	newAnnouncer(t.Context(), s, quietLog()).write([]announcement{an})
	if got := <-an.ok; got != refused {
		t.Errorf("announced: %d, want %d", got, refused)
	}
	jobs[0].outcome = &dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}
	kept := true
	newRecorder(t.Context(), s, quietLog(), func(_ entry, ok bool) { kept = ok }).write([]entry{{job: jobs[0]}})
	if kept {
		t.Error("recorded")
	}
}

// TestUnknownOutcomeStaysUnknown: what was told that it was not taken, to somebody who had
// lost the delivery by then, does not hide that the attempt of his successor may have
// arrived.
func TestUnknownOutcomeStaysUnknown(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]int{"the former holder first": 0, "the successor first": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			due(t, db)
			pgtest.Exec(t, db, `update outbox.deliveries set state = 'ready', attempts = 0`)
			s := &store{pool: db.Pool, lease: time.Minute}
			var held []entry
			for range 2 {
				_, jobs, err := s.claimDue(t.Context(), 10)
				if err != nil || len(jobs) != 1 {
					t.Fatalf("claimed %d, %v", len(jobs), err)
				}
				jobs[0].Attempt = 1
				held = append(held, entry{job: jobs[0]})
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second'`) // its lease has run out
			}
			held[0].job.outcome = &dispatch.Outcome{State: dispatch.Retry, Attempts: 1, Err: &dispatch.Error{Kind: dispatch.Down}}
			held[1].job.outcome = &dispatch.Outcome{State: dispatch.Uncertain, Attempts: 1, Err: &dispatch.Error{Kind: dispatch.Unknown}}
			for _, i := range []int{first, 1 - first} {
				kept := false
				newRecorder(t.Context(), s, quietLog(), func(_ entry, ok bool) { kept = ok }).write([]entry{held[i]})
				if kept != (i == 1) {
					t.Errorf("holder %d: recorded %t", i, kept)
				}
			}
			unclear := pgtest.QueryVal[bool](t, db, `select d.attempts <> (select count(*) from outbox.attempts as a where a.delivery_id = d.id and a.kind <> 'unknown') from outbox.deliveries as d`)
			if state := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries`); state != "uncertain" || !unclear {
				t.Errorf("it is %s; it may have arrived: %t", state, unclear)
			}
		})
	}
}

// TestLeaseCountsFromTheQuestion: a slow answer to a claim, or to a renewal, does
// not make anybody believe that its lease is longer than the database has it.
func TestLeaseCountsFromTheQuestion(t *testing.T) {
	t.Parallel()
	const slowly = 300 * time.Millisecond
	db := pgtest.New(t)
	due(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
	pgtest.Exec(t, db, `create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return null; end $$`)
	for _, table := range []string{"outbox_events", "outbox.deliveries"} {
		pgtest.Exec(t, db, `create trigger dawdle after update on `+table+` for each statement execute function dawdle()`)
	}
	log := quietLog()
	s := &store{pool: db.Pool, lease: time.Minute}
	ls := &leases{store: s, log: log, sparse: newSparse(log), all: map[*lease]struct{}{}}
	check := func(what string, l *lease) {
		t.Helper()
		if left := l.left(); left > s.lease-slowly {
			t.Errorf("%s: %s left of %s, %s after it was asked for at least", what, left, s.lease, slowly)
		}
	}
	claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1)
	if err != nil || len(claims) != 1 {
		t.Fatalf("%d claims, %v", len(claims), err)
	}
	check("claim of events", claims[0].lease)
	l, jobs, err := s.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d deliveries, %v", len(jobs), err)
	}
	check("claim of deliveries", l)

	l.jobs[jobs[0].ID] = jobs[0]
	l.until.Store(monotonic(time.Now().Add(s.lease / 2)))
	ls.add(l)
	ls.renew(t.Context())
	if l.left() < s.lease/2 {
		t.Errorf("not renewed: %s left", l.left())
	}
	check("renewal", l)
}

// TestNothingIsBegunWithoutALease: what has so little of its lease left that it may
// run out before the first byte is out is not begun, and neither is what was lost.
func TestNothingIsBegunWithoutALease(t *testing.T) {
	t.Parallel()
	const ttl = 20 * time.Second // a margin of 2 s
	l := &Listener{store: &store{lease: ttl}}
	for _, tt := range []struct {
		name string
		left time.Duration
		mark func(*job)
		want bool
	}{
		{"all of it is left", ttl, nil, false},
		{"enough is left", 3 * time.Second, nil, false},
		{"too little is left", time.Second, nil, true},
		{"it has run out", -time.Second, nil, true},
		{"the delivery was taken over", ttl, func(j *job) { j.lost.Store(true) }, true},
		{"its event was taken over", ttl, func(j *job) { j.event.lost.Store(true) }, true},
		{"its event was locked at each renewal", ttl, func(j *job) { j.event.until.Store(monotonic(time.Now().Add(time.Second))) }, true},
		{"it was locked at the last renewal", ttl, func(j *job) { j.until.Store(monotonic(time.Now().Add(ttl / 2))) }, false},
	} {
		held := newLease(time.Now().Add(tt.left-ttl), ttl)
		j := &job{lease: held, event: &event{lease: held}}
		if tt.mark != nil {
			tt.mark(j)
		}
		if got := l.lost(j); got != tt.want {
			t.Errorf("%s: lost is %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestFollowerOfTwo: a step that waits for two others is due once both have been
// delivered, and not before.
func TestFollowerOfTwo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	e := events[0]
	for _, step := range []string{"a", "b", "c"} {
		j := e.newJob(dispatch.Message{Route: "r", Step: step, Channel: "c"}, 0)
		pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, after_steps, content)
			select $2, id, seq, type, created_at, 'r', $3, 'c', '', 'ready', 0, case when $3 <> 'c' then now() end, case when $3 = 'c' then array['a', 'b'] end, '{}'
			from outbox_events where seq = $1`, e.seq, j.ID, step)
	}
	pgtest.Exec(t, db, `update outbox_events set lease_until = 'infinity' where seq = $1`, e.seq)
	_, jobs, err := s.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 2 {
		t.Fatalf("claimed %d, %v", len(jobs), err)
	}
	s.due = func() {}
	for i, j := range jobs {
		j.outcome = &dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}
		if kept, err := s.recordDeliveries(t.Context(), []entry{{job: j}}); err != nil || !kept[j.ID] {
			t.Fatal(kept, err)
		}
		due := pgtest.QueryVal[bool](t, db, `select due_at is not null from outbox.deliveries where step = 'c'`)
		if due != (i == 1) {
			t.Errorf("with %d of 2 delivered it is due: %t", i+1, due)
		}
	}
}

// TestFoundIsBoundOnce: of two deliveries that find the same message, one has it on
// record, and the other has to look again.
func TestFoundIsBoundOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	due(t, db)
	due(t, db)
	pgtest.Exec(t, db, `update outbox.deliveries set likeness = 7`)
	l := &Listener{store: &store{pool: db.Pool, lease: time.Minute}}
	_, jobs, err := l.store.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 2 {
		t.Fatalf("claimed %d, %v", len(jobs), err)
	}
	for i, j := range jobs {
		err := l.keepLook(t.Context(), j, 7, dispatch.VerdictFound, dispatch.Receipt{ProviderID: "SM1"}, "")
		if first := i == 0; (err == nil) != first || (j.found == "SM1") != first {
			t.Errorf("delivery %d: %v, found %q", i+1, err, j.found)
		}
	}
}

// TestOutcomeUnderItsClaim: the outcome of an event that was taken over is not
// recorded by whoever held it before.
func TestOutcomeUnderItsClaim(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	pgtest.Exec(t, db, `update outbox_events set lease_until = now() - interval '1 second'`)
	if claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1); err != nil || len(claims) != 1 {
		t.Fatalf("claimed again: %v, %v", claims, err)
	}
	e := events[0]
	j := e.newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c", Content: []byte(`{}`)}, 0)
	j.outcome = &dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}
	kept, err := s.recordEvents(t.Context(), []entry{{event: e, rows: []row{j.ledgerRow(s.lease)}}})
	if err != nil || len(kept) != 0 {
		t.Errorf("kept %v, %v", kept, err)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is not null`); n != 0 {
		t.Errorf("%d events are processed", n)
	}
}
