package listener

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// claimTwo returns a store with two events under one lease.
func claimTwo(t *testing.T, db *pgtest.DB) (*store, []*event) {
	t.Helper()
	s := &store{pool: db.Pool, lease: 20 * time.Second, maxPayload: 1 << 20}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'x', '{}' from generate_series(1, 2)`)
	claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1)
	if err != nil || len(claims) != 1 || len(claims[0].events) != 2 {
		t.Fatalf("claimed %v of 2: %v", claims, err)
	}
	return s, claims[0].events
}

// TestRenewalDoesNotUndoARecord: a renewal that had its list before an outcome
// was recorded changes neither the wait of a retry nor what was given back.
func TestRenewalDoesNotUndoARecord(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	j := events[0].newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c"}, 0)
	j.outcome, j.wait = &dispatch.Outcome{State: dispatch.Retry, Attempts: 1}, time.Hour
	if _, err := s.recordEvents(t.Context(), []entry{{event: events[0], rows: []row{j.ledgerRow(s.lease)}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.release(t.Context(), events[1:], nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.renew(t.Context(), events, []*job{j}); err != nil {
		t.Fatal(err)
	}
	if due := pgtest.QueryVal[float64](t, db, `select extract(epoch from due_at - now())::float8 from outbox.deliveries`); due < 3000 {
		t.Errorf("the retry in an hour is due in %.0f s", due)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until > now() and lease_until <> 'infinity'`); n != 0 {
		t.Errorf("%d events were given back and are leased by nobody", n)
	}
}

// TestRenewalOfMany: as much as a listener may have in hand, where an event has a thousand deliveries, is
// renewed, and given back, in the time that there is.
func TestRenewalOfMany(t *testing.T) {
	t.Parallel()
	const many = 20000
	db := pgtest.New(t)
	s := &store{pool: db.Pool, lease: time.Minute}
	l := newLease(time.Now(), s.lease)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, claim)
		select gen_random_uuid(), gen_random_uuid(), 1, 'x', now(), 'r', 's', 'c', '', 'ready', 0, now() + interval '5 seconds', $1 from generate_series(1, $2)`, l.claim, many)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until) select 'x', '{}', $1, now() + interval '5 seconds' from generate_series(1, $2)`, l.claim, many)
	var jobs []*job
	for _, id := range pgtest.QueryVals[uuid.UUID](t, db, `select id from outbox.deliveries`) {
		j := &job{lease: l}
		j.ID = id
		jobs = append(jobs, j)
	}
	var events []*event
	for _, seq := range pgtest.QueryVals[int64](t, db, `select seq from outbox_events order by seq`) {
		events = append(events, &event{seq: seq, lease: l})
	}
	slices.SortFunc(jobs, func(a, b *job) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	begun := time.Now()
	kept, err := s.renew(t.Context(), events, jobs)
	if took := time.Since(begun); err != nil || len(kept.jobs) != many || len(kept.events) != many || took > 8*time.Second {
		t.Errorf("%d deliveries and %d events after %s, %v; want %d", len(kept.jobs), len(kept.events), took, err, many)
	}
	for j, renewed := range kept.jobs {
		if !renewed {
			t.Fatalf("%v is not renewed", j)
		}
	}
	begun = time.Now()
	locked, err := s.release(t.Context(), events, jobs)
	if took := time.Since(begun); err != nil || locked != 0 || took > 8*time.Second {
		t.Errorf("given back after %s, %v, but for %d", took, err, locked)
	}
}

// TestRenewalBesideItsParking: what a renewal found locked by the record that parks it says nothing of
// the deliveries, which are held by themselves since.
func TestRenewalBesideItsParking(t *testing.T) {
	t.Parallel()
	l := newLease(time.Now(), time.Minute)
	e := &event{seq: 1, lease: l}
	j := &job{lease: l, event: e}
	l.events[e.seq] = e
	l.stay(e, false)
	if left := e.until.Load(); left == 0 {
		t.Error("an event that was locked counts as renewed")
	}
	l.park(e, []*job{j}, heldFor(time.Hour))
	l.stay(e, false)
	l.until.Store(monotonic(time.Now().Add(2 * time.Hour))) // a renewal that was under way
	if left := j.leaseLeft(); left < 30*time.Minute || left > time.Hour {
		t.Errorf("%s left of the hour that its record says", left)
	}
}

// renewsAll is a store of which a renewal finds all that it asks for.
type renewsAll struct {
	storage
	lease time.Duration
	asked map[int64]bool
}

func (s *renewsAll) ttl() time.Duration { return s.lease }

func (s *renewsAll) renew(_ context.Context, events []*event, _ []*job) (keptLeases, error) {
	kept := keptLeases{map[heldEvent]bool{}, map[heldJob]bool{}}
	for _, e := range events {
		kept.events[heldEvent{e.seq, e.lease.claim}] = true
		s.asked[e.seq] = true
	}
	return kept, nil
}

// TestRenewalAtTheThird: a lease of which a third passes while it is looked through is extended for what is asked for
// alone.
func TestRenewalAtTheThird(t *testing.T) {
	t.Parallel()
	const ttl, many = time.Minute, 10_000
	for range 10 {
		s, log := &renewsAll{lease: ttl, asked: map[int64]bool{}}, quietLog()
		ls := &leases{store: s, log: log, sparse: newSparse(log), all: map[*lease]struct{}{}}
		l := newLease(time.Now(), ttl)
		for i := range int64(many) {
			l.events[i+1] = &event{seq: i + 1, lease: l}
		}
		ls.add(l)
		begun := time.Now()
		l.held()
		gathered := time.Since(begun)
		l.until.Store(monotonic(time.Now().Add(ttl*2/3 + gathered + 500*time.Microsecond)))
		was := l.until.Load()
		ls.renew(t.Context())
		for seq, e := range l.events {
			if more := e.leaseLeft() - time.Duration(was-monotonic(time.Now())); !s.asked[seq] && more > time.Second {
				t.Fatalf("%d was not renewed, and counts as held for %s longer than it is", seq, more)
			}
		}
	}
}

// TestRenewalOfWhatIsBeingRecorded: an event that was taken over while its parking is yet to be recorded has
// no more of a lease than it had.
func TestRenewalOfWhatIsBeingRecorded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	log := quietLog()
	ls := &leases{store: s, log: log, sparse: newSparse(log), all: map[*lease]struct{}{}}
	e, other := events[0], events[1]
	ls.add(e.lease)
	half := s.lease / 2
	e.lease.until.Store(monotonic(time.Now().Add(half)))
	e.parking = true
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid() where seq = $1`, e.seq)
	ls.renew(t.Context())
	if left := e.leaseLeft(); left > half || left <= 0 {
		t.Errorf("%s left where the record is to say whether it was ours, want what there was of %s", left, half)
	}
	if left := other.leaseLeft(); left <= half {
		t.Errorf("%s left of the other, which was renewed", left)
	}
	e.parking = false
	ls.renew(t.Context())
	if left := e.leaseLeft(); left != 0 {
		t.Errorf("%s left of what was taken over", left)
	}
}

// renewsNothing is a store of which a renewal finds nothing that is ours.
type renewsNothing struct{ storage }

func (renewsNothing) ttl() time.Duration { return time.Minute }
func (renewsNothing) renew(context.Context, []*event, []*job) (keptLeases, error) {
	return keptLeases{}, nil
}

// TestRenewalAfterARecord: what is on record, and not noted yet, is not taken for taken over: neither a
// delivery that is recorded by itself nor an event that has none.
func TestRenewalAfterARecord(t *testing.T) {
	t.Parallel()
	log, told := quietLog(), 0
	ls := &leases{store: renewsNothing{}, log: log, sparse: newSparse(log), all: map[*lease]struct{}{}, tookOver: func([]uuid.UUID) { told++ }}
	l := newLease(time.Now(), time.Second) // a third of a minute is over
	ls.add(l)
	out := &Listener{store: ls.store, recorder: newRecorder(t.Context(), nil, log, nil), log: log} // which writes nothing
	e, j, other := &event{seq: 1, lease: l}, &job{lease: l}, &job{lease: l}
	j.ID, other.ID = uuid.New(), uuid.New()
	l.events[e.seq], l.jobs[j.ID] = e, j
	out.recordWhole(e)
	out.recordAlone(j)
	if ls.renew(t.Context()); told != 0 || j.lost.Load() || e.lost.Load() {
		t.Errorf("told %d times; the delivery is lost: %t, the event: %t", told, j.lost.Load(), e.lost.Load())
	}
	l.jobs[other.ID] = other
	l.until.Store(monotonic(time.Now().Add(time.Second)))
	if ls.renew(t.Context()); told != 1 || !other.lost.Load() {
		t.Errorf("told %d times of one that is taken over, which is lost: %t", told, other.lost.Load())
	}
}

// TestLockedRowIsNotGivenBack: of what is given back, that which somebody has
// locked is left to its lease, and the rest is free.
func TestLockedRowIsNotGivenBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at)
		select gen_random_uuid(), id, seq, type, created_at, 'r', 's', 'c', '', 'ready', 0, now() from outbox_events`)
	l, jobs, err := s.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 2 {
		t.Fatalf("claimed %d deliveries of 2: %v", len(jobs), err)
	}
	for _, tt := range []struct {
		name, lock, mine string
		key              any
		events           []*event
		jobs             []*job
	}{
		{"event", `select from outbox_events where seq = $1 for update`,
			`select count(*) filter (where lease_until > now()) from outbox_events where $1::uuid is not null`, events[0].seq, events, nil},
		{"delivery", `select from outbox.deliveries where id = $1 for update`,
			`select count(*) from outbox.deliveries where claim = $1`, jobs[0].ID, nil, jobs},
	} {
		tx, err := db.Pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), tt.lock, tt.key); err != nil {
			t.Fatal(err)
		}
		locked, err := s.release(t.Context(), tt.events, tt.jobs)
		if err != nil || locked != 1 {
			t.Errorf("%s: %d locked, %v; want 1", tt.name, locked, err)
		}
		if n := pgtest.QueryVal[int](t, db, tt.mine, l.claim); n != 1 {
			t.Errorf("%s: %d still ours, want the locked one", tt.name, n)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if locked, err = s.release(t.Context(), tt.events, tt.jobs); err != nil || locked != 0 {
			t.Errorf("%s: %d locked after the lock, %v; want 0", tt.name, locked, err)
		}
		if n := pgtest.QueryVal[int](t, db, tt.mine, l.claim); n != 0 {
			t.Errorf("%s: %d still ours after the lock", tt.name, n)
		}
	}
}

// TestParkingKeepsTheAnnouncement: a delivery that is announced and has not
// begun is still announced, and counted, once its event is parked.
func TestParkingKeepsTheAnnouncement(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	j := events[0].newJob(dispatch.Message{Route: "r", Step: "s", Channel: "c", Content: []byte(`{"n": 1}`)}, 0)
	j.announced = true
	kept, err := s.announce(t.Context(), []announcement{{job: j}})
	if err != nil || !kept[j.ID] {
		t.Fatalf("announced %v, %v", kept, err)
	}
	if _, err := s.recordEvents(t.Context(), []entry{{event: events[0], rows: []row{j.ledgerRow(s.lease)}}}); err != nil {
		t.Fatal(err)
	}
	got := pgtest.QueryVal[string](t, db, `select concat_ws(' ', state, attempts, content, due_at > now()) from outbox.deliveries`)
	if want := `sending 1 {"n": 1} t`; got != want {
		t.Errorf("parked as %q, want %q", got, want)
	}
}

// TestOneDeliveryUnderTwoClaims: of a delivery that we hold under a claim that
// ran out and under its successor, only the latter may leave, and only its
// outcome counts, also where both are in one batch.
func TestOneDeliveryUnderTwoClaims(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, events := claimTwo(t, db)
	message := dispatch.Message{Route: "r", Step: "s", Channel: "c", Content: []byte(`{}`)}
	old := events[0].newJob(message, 0)
	pgtest.Exec(t, db, `update outbox_events set lease_until = now() - interval '1 second'`)
	claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1)
	if err != nil || len(claims) != 1 {
		t.Fatalf("claimed again: %v, %v", claims, err)
	}
	e := claims[0].events[0]
	j := e.newJob(message, 0)
	if j.ID != old.ID {
		t.Fatalf("one delivery has two ids: %s and %s", old.ID, j.ID)
	}

	answers := map[*job]announced{}
	batch := []announcement{{job: old, ok: make(chan announced, 1)}, {job: j, ok: make(chan announced, 1)}}
	newAnnouncer(t.Context(), s, quietLog()).write(batch)
	for _, an := range batch {
		answers[an.job] = <-an.ok
	}
	if answers[old] != refused || answers[j] != committed {
		t.Errorf("announced: old %d, new %d; want %d and %d", answers[old], answers[j], refused, committed)
	}

	renewed, err := s.renew(t.Context(), []*event{events[0], e}, nil)
	if err != nil || len(renewed.events) != 1 || !renewed.events[heldEvent{e.seq, e.lease.claim}] {
		t.Errorf("renewed %v, %v; want the new claim alone", renewed.events, err)
	}

	if _, err := s.recordEvents(t.Context(), []entry{{event: e, rows: []row{j.ledgerRow(s.lease)}}}); err != nil {
		t.Fatal(err)
	}
	renewed, err = s.renew(t.Context(), nil, []*job{old, j})
	if err != nil || len(renewed.jobs) != 1 || !renewed.jobs[heldJob{j.ID, j.lease.claim}] {
		t.Errorf("renewed %v, %v; want the delivery under the new claim alone", renewed.jobs, err)
	}
	kept := map[*job]bool{}
	r := newRecorder(t.Context(), s, quietLog(), func(en entry, ok bool) { kept[en.job] = ok })
	for _, j := range []*job{old, j} {
		j.outcome = &dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}
	}
	r.write([]entry{{job: old}, {job: j}})
	if kept[old] || !kept[j] || len(kept) != 2 {
		t.Errorf("outcome kept: old %t, new %t; want the new one alone", kept[old], kept[j])
	}
}

// TestDrainSaysNothingOfWhatIsLeft: whether the claim of a caller of Drain was
// full does not make the listener believe that more may wait.
func TestDrainSaysNothingOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), Log: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'x', '{}' from generate_series(1, 4)`)
	for _, tt := range []struct {
		limit int
		tally *tally
		more  bool
	}{
		{1, newTally(), false},
		{1, nil, true},
		{10, newTally(), true},
		{10, nil, false},
	} {
		if _, _, err := (&looker{l: l}).look(t.Context(), tt.limit, tt.limit, tt.tally); err != nil {
			t.Fatal(err)
		}
		if l.queue.more != tt.more {
			t.Errorf("a look for %d, for a caller: %t: more may wait: %t", tt.limit, tt.tally != nil, l.queue.more)
		}
	}
}

// TestLargeRecordsAreWrittenInParts: a batch ends where it would be more than
// the database can take in time, and one that is larger still goes alone.
func TestLargeRecordsAreWrittenInParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		entries, size int // bytes of content of each
		want          string
	}{
		{"small ones go together", 1000, 10, "[1000]"},
		{"but not too many", 2500, 10, "[1000 1000 500]"},
		{"large ones a few at a time", 20, 1 << 20, "[8 8 4]"},
		{"giants alone", 2, 9 << 20, "[1 1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			content := []byte(strings.Repeat("x", tt.size))
			r := newRecorder(t.Context(), nil, nil, nil)
			for range tt.entries {
				j := &job{Delivery: dispatch.Delivery{Message: dispatch.Message{Content: content}}}
				r.add(entry{rows: []row{{job: j}}})
			}
			var got []int
			for n := len(r.others.take(1)); n > 0; n = len(r.others.take(1)) {
				got = append(got, n)
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("batches of %v, want %s", got, tt.want)
			}
		})
	}
}
