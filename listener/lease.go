package listener

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// lease is what one claim brought: its events and deliveries belong to this
// listener until the lease runs out.
type lease struct {
	claim uuid.UUID    // the fence
	until atomic.Int64 // since the start of the process, in nanoseconds, on the monotonic clock

	mu     sync.Mutex
	events map[int64]*event // not yet recorded, by seq
	jobs   map[uuid.UUID]*job
}

// started anchors the monotonic clock of this process.
var started = time.Now()

// heldFor is until when something is held, at the least, that a statement which is yet to be sent
// leases for ttl.
func heldFor(ttl time.Duration) int64 { return monotonic(time.Now().Add(ttl)) }

func monotonic(t time.Time) int64 { return int64(t.Sub(started)) }

// newLease makes a lease that was asked for at sent. It counts from before
// the question, so that a slow answer does not stretch it.
func newLease(sent time.Time, ttl time.Duration) *lease {
	l := &lease{claim: uuid.New(), events: map[int64]*event{}, jobs: map[uuid.UUID]*job{}}
	l.until.Store(monotonic(sent.Add(ttl)))
	return l
}

// newLeaseOf is a lease that an earlier listener had, as far as a record needs it.
func newLeaseOf(claim uuid.UUID) *lease { return &lease{claim: claim} }

// successor is the fence of a delivery once it is on record: the same whenever it
// is asked for, so that the record can be repeated after a lost answer.
func (l *lease) successor() uuid.UUID { return uuid.NewSHA1(l.claim, []byte("recorded")) }

// left returns how long the lease still lasts.
func (l *lease) left() time.Duration {
	return time.Duration(l.until.Load() - monotonic(time.Now()))
}

// tenure is how one event or delivery is held, apart from the lease that it came with.
type tenure struct {
	lost  atomic.Bool  // it was taken over
	until atomic.Int64 // as lease.until, where the last renewal went without it; 0 where it has all of the lease
}

// left returns how long what was claimed with l is held for.
func (t *tenure) left(l *lease) time.Duration {
	until := l.until.Load() // before its own: see renew
	if own := t.until.Load(); own != 0 {
		until = min(until, own)
	}
	if t.lost.Load() {
		return 0
	}
	return time.Duration(until - monotonic(time.Now()))
}

// stay notes whether a renewal of l, which is yet to be counted, took it along.
func (t *tenure) stay(l *lease, renewed bool) {
	switch {
	case renewed:
		t.until.Store(0)
	case t.until.Load() == 0:
		t.until.Store(l.until.Load())
	}
}

// stay notes whether a renewal took e along, where it is held still: park has ended what its
// deliveries would heed.
func (l *lease) stay(e *event, renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events[e.seq] == e {
		e.tenure.stay(l, renewed)
	}
}

func (e *event) leaseLeft() time.Duration { return e.tenure.left(e.lease) }

func (j *job) leaseLeft() time.Duration {
	left := time.Duration(math.MaxInt64)
	if j.event != nil {
		left = j.event.leaseLeft() // before its own: see park
	}
	return min(left, j.tenure.left(j.lease))
}

// held returns what is still under the lease.
func (l *lease) held() (events []*event, jobs []*job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		events = append(events, e)
	}
	for _, j := range l.jobs {
		jobs = append(jobs, j)
	}
	return events, jobs
}

func (l *lease) dropEvent(e *event) (empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.events, e.seq)
	return len(l.events)+len(l.jobs) == 0
}

func (l *lease) dropJob(j *job) (empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, j.ID)
	return len(l.events)+len(l.jobs) == 0
}

// park turns an event that is held into deliveries that are held, by what the record of that
// says until: a renewal that was under way did not have them.
func (l *lease) park(e *event, open []*job, until int64) (empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.events, e.seq)
	for _, j := range open {
		j.until.Store(until)
		l.jobs[j.ID] = j
	}
	e.until.Store(0) // after theirs: whoever asks meanwhile asks for this one first
	return len(l.events)+len(l.jobs) == 0
}

// leases are all that this listener holds.
type leases struct {
	store  storage
	log    *slog.Logger
	sparse *sparse

	tookOver func(ids []uuid.UUID) // is told what was taken over; nil: nobody is

	// Readable when something was leased, for those that rest while nothing is: parkSlow, and keepBrakes. nil: nobody does.
	forParking, forBrakes chan struct{}

	mu  sync.Mutex
	all map[*lease]struct{}
}

func (ls *leases) add(l *lease) {
	ls.mu.Lock()
	ls.all[l] = struct{}{}
	ls.mu.Unlock()
	signal(ls.forParking)
	signal(ls.forBrakes)
}

// none reports whether nothing is leased.
func (ls *leases) none() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.all) == 0
}

func (ls *leases) remove(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, l)
}

func (ls *leases) snapshot() []*lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]*lease, 0, len(ls.all))
	for l := range ls.all {
		out = append(out, l)
	}
	return out
}

// keep renews what is held, three times within each lease, until ctx ends.
func (ls *leases) keep(ctx context.Context) {
	tick := time.NewTicker(ls.store.ttl() / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ls.renew(ctx)
		}
	}
}

// renew extends every lease of which a third has passed, all in one
// statement. What is not in the answer was taken over: it must not be begun
// any more. What somebody has locked keeps the time that it had, and is asked
// for again the next time.
func (ls *leases) renew(ctx context.Context) {
	var old []*lease
	var events []*event
	var jobs []*job
	fresh := ls.store.ttl() * 2 / 3
	for _, l := range ls.snapshot() {
		due := l.left() <= fresh // asked once: what is extended, all of it is asked for
		e, j := l.held()
		e = slices.DeleteFunc(e, func(e *event) bool { return e.lost.Load() || !due && e.tenure.left(l) > fresh })
		j = slices.DeleteFunc(j, func(j *job) bool { return j.lost.Load() || !due && j.tenure.left(l) > fresh })
		if len(e)+len(j) > 0 && due {
			old = append(old, l)
		}
		events, jobs = append(events, e...), append(jobs, j...)
	}
	if len(events)+len(jobs) == 0 {
		return
	}
	slices.SortFunc(events, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	slices.SortFunc(jobs, func(a, b *job) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	sent := time.Now()
	failpoint.Hit("K13")
	kept, err := ls.store.renew(ctx, events, jobs)
	if err != nil {
		ls.sparse.warn("leases not renewed", err)
		return
	}
	lost := 0
	var ids []uuid.UUID
	for _, e := range events {
		renewed, ours := kept.events[heldEvent{e.seq, e.lease.claim}]
		if rec := e.recording(); ours || rec { // asked first: then it is parked, and let go of, at once
			e.lease.stay(e, renewed)
		} else if e.stillHeld() {
			e.lost.Store(true)
			ids = append(ids, e.ID)
			lost++
		}
	}
	for _, j := range jobs {
		renewed, ours := kept.jobs[heldJob{j.ID, j.lease.claim}]
		if ours || j.recording.Load() {
			j.stay(j.lease, renewed)
		} else if j.lease.holdsJob(j) {
			j.lost.Store(true)
			ids = append(ids, j.ID)
			lost++
		}
	}
	if lost > 0 {
		if ls.tookOver != nil {
			ls.tookOver(ids)
		}
		ls.sparse.say(slog.LevelWarn, "leases were taken over", "lost", lost)
	}
	for _, l := range old {
		l.until.Store(monotonic(sent.Add(ls.store.ttl())))
	}
}

// recording reports whether the record of e is under way, or it was given back. Whether it was ours is for that to say.
func (e *event) recording() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.parking || e.handed
}

func (e *event) stillHeld() bool {
	e.lease.mu.Lock()
	defer e.lease.mu.Unlock()
	return e.lease.events[e.seq] == e
}

func (l *lease) holdsJob(j *job) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jobs[j.ID] == j
}

// keptLeases says what is still ours, and whether its lease was extended: not where somebody
// has it locked.
type keptLeases struct {
	events map[heldEvent]bool
	jobs   map[heldJob]bool
}

// heldEvent and heldJob are what is held under one claim: we may hold the same
// under a claim that ran out and under its successor.
type heldEvent struct {
	seq   int64
	claim [16]byte
}

type heldJob struct{ id, claim [16]byte }

func (s *store) renew(ctx context.Context, events []*event, jobs []*job) (keptLeases, error) {
	kept := keptLeases{map[heldEvent]bool{}, map[heldJob]bool{}}
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) {
		if len(events) > 0 {
			seqs, claims := fences(events)
			b.Queue(sqlRenewEvents, seqs, claims, s.lease.Seconds()).Query(func(rows pgx.Rows) error {
				var e heldEvent
				var renewed bool
				_, err := pgx.ForEachRow(rows, []any{&e.seq, &e.claim, &renewed}, func() error { kept.events[e] = renewed; return nil })
				return err
			})
		}
		if len(jobs) > 0 {
			ids, claims := jobFences(jobs)
			b.Queue(sqlRenewDeliveries, ids, claims, s.lease.Seconds()).Query(func(rows pgx.Rows) error {
				var j heldJob
				var renewed bool
				_, err := pgx.ForEachRow(rows, []any{&j.id, &j.claim, &renewed}, func() error { kept.jobs[j] = renewed; return nil })
				return err
			})
		}
	})
	return kept, err
}

// release gives back what was claimed and never begun: at once, or from when the absence of an
// event is over. What somebody else has locked it leaves to its lease, and returns how much that was.
func (s *store) release(ctx context.Context, events []*event, jobs []*job) (locked int, err error) {
	err = s.tx(ctx, durable, func(b *pgx.Batch) {
		if len(events) > 0 {
			events = slices.SortedFunc(slices.Values(events), func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
			seqs, claims := fences(events)
			absences := make([]float64, len(events))
			for i, e := range events {
				absences[i] = e.absence.Seconds()
			}
			b.Queue(sqlReleaseEvents, seqs, claims, absences).Query(func(rows pgx.Rows) error {
				return each(rows, func(int64) { locked++ })
			})
		}
		if len(jobs) > 0 {
			ids, claims := jobFences(jobs)
			b.Queue(sqlReleaseDeliveries, ids, claims).Query(func(rows pgx.Rows) error {
				return eachID(rows, func(uuid.UUID) { locked++ })
			})
		}
	})
	return locked, err
}

func fences(events []*event) (seqs []int64, claims uuids) {
	for _, e := range events {
		seqs = append(seqs, e.seq)
		claims.add(e.lease.claim)
	}
	return seqs, claims
}

func jobFences(jobs []*job) (ids, claims uuids) {
	for _, j := range jobs {
		ids.add(j.ID)
		claims.add(j.lease.claim)
	}
	return ids, claims
}

// each calls f with the only column of each row.
func each[T any](rows pgx.Rows, f func(T)) error {
	var v T
	_, err := pgx.ForEachRow(rows, []any{&v}, func() error { f(v); return nil })
	return err
}

// eachID calls f with the only column of each row, a uuid. It scans into the
// bytes: the type itself would be scanned through text.
func eachID(rows pgx.Rows, f func(uuid.UUID)) error {
	return each(rows, func(id [16]byte) { f(id) })
}
