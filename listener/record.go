package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// entry is one thing to put on record: a whole event whose deliveries all
// have an outcome, an event that is parked with its deliveries as they stand,
// or one delivery that is on its own.
type entry struct {
	event *event
	rows  []row
	open  []*job // those of a parked event that have no outcome yet
	job   *job

	until int64 // where it is being parked: when the leases of those are over, as lease.until

	frozen bool // its deliveries go on once they are on record
	orphan bool // its event was deleted, and what left of it is on record all the same
	plain  bool // texts of others are left out, since the database refuses them
}

func (en entry) seq() int64 {
	if en.job != nil {
		return en.job.seq
	}
	return en.event.seq
}

// bytes is about how much the entry adds to a statement.
func (en entry) bytes() int {
	n := 500
	for _, r := range en.rows {
		n += 500 + len(r.job.Content)
	}
	return n
}

// withoutTexts returns the entry with nothing in it that came from outside.
func (en entry) withoutTexts() entry {
	en.plain = true
	en.rows = slices.Clone(en.rows)
	for i := range en.rows {
		en.rows[i].strip()
	}
	return en
}

// own is the row of a delivery that is on its own.
func (en entry) own(ttl time.Duration) row {
	if len(en.rows) == 1 { // an earlier listener kept it
		return en.rows[0]
	}
	return en.job.ledgerRow(ttl)
}

func (en entry) eventID() uuid.UUID {
	if en.job != nil {
		return en.job.EventID
	}
	return en.event.ID
}

// fresh reports whether the entry is a whole event with one delivery that the
// ledger cannot know yet: most are, and they are written with fewer questions.
func (en entry) fresh() bool {
	if en.event == nil || en.event.again || len(en.rows) != 1 || len(en.open) > 0 || en.plain {
		return false
	}
	j := en.rows[0].job
	return !j.known && !j.announced
}

// recorder writes outcomes, many at a time. A record that cannot be written
// is tried until it is, or until its fence is gone; meanwhile nothing new is
// begun.
//
// Fresh events depend on nothing else, and some batches of them may be written
// at once. So may those that are frozen, since their deliveries go on only
// then. All others are written one batch after the other, since a delivery goes on
// by itself only after its event was parked.
type recorder struct {
	store   storage
	log     *slog.Logger
	sparse  *sparse
	done    func(entry, bool) // called for each entry; false when it was fenced off
	trouble atomic.Int32      // batches whose last write did not succeed
	again   atomic.Int64      // when one of them was last written after all, as monotonic has it; 0: never
	stop    context.Context   // ends when no more patience is left
	fresh   *batcher[entry]
	others  *batcher[entry]
	freezes *batcher[entry]
	thaw    func(entry, map[uuid.UUID]string) // called for each that was frozen
	pass    func(context.Context, []string)   // called with the lines in which the turn may pass
	rest    time.Duration                     // until what is locked is tried again
	avoided func(entry)                       // called for each whose row is locked, which is tried again; nil: nobody is
}

// A batch of outcomes, at most, and how many fresh ones must wait for a second
// batch to be worth its commit.
const (
	recordMost   = 1000
	recordBytes  = 8 << 20
	recordHelper = 250
)

// Batches of fresh outcomes begin recordApart apart, unless recordEnough of
// them wait: one that comes after a pause is written at once.
const (
	recordApart  = 4 * time.Millisecond
	recordEnough = 100
)

func newRecorder(stop context.Context, s storage, log *slog.Logger, done func(entry, bool)) *recorder {
	r := &recorder{store: s, log: log, sparse: newSparse(log), done: done, stop: stop, rest: busyAgain}
	r.fresh = newBatcher(recordMost, recordBytes, entry.bytes, func(entries []entry) { r.insist(entries, r.writeFresh) }, recordHelper, 2*recordHelper)
	r.fresh.apart, r.fresh.enough = recordApart, recordEnough
	r.others = newBatcher(recordMost, recordBytes, entry.bytes, r.write)
	r.freezes = newBatcher(recordMost, recordBytes, entry.bytes, r.freeze)
	return r
}

// failing reports whether outcomes cannot be written at the moment.
func (r *recorder) failing() bool { return r.trouble.Load() > 0 }

// failedWithin reports whether that was so within the last d.
func (r *recorder) failedWithin(d time.Duration) bool {
	at := r.again.Load()
	return r.failing() || at != 0 && monotonic(time.Now())-at < int64(d)
}

func (r *recorder) add(en entry) {
	switch {
	case en.frozen:
		r.freezes.add(en)
	case en.fresh():
		r.fresh.add(en)
	default:
		r.others.add(en)
	}
}

func (r *recorder) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { r.fresh.run(ctx) })
	wg.Go(func() { r.freezes.run(ctx) })
	r.others.run(ctx)
	wg.Wait()
}

func (r *recorder) writeFresh(ctx context.Context, entries []entry) error {
	kept, err := r.store.recordFresh(ctx, entries)
	if isTwin(err) {
		// The answer to an earlier try was lost, most likely.
		return r.writeEvents(ctx, entries)
	}
	if err != nil {
		return err
	}
	return r.recordedEvents(ctx, entries, kept)
}

func (r *recorder) write(entries []entry) {
	var events, jobs []entry
	for _, en := range entries {
		if en.event != nil {
			events = append(events, en)
		} else {
			jobs = append(jobs, en)
		}
	}
	// Events first: a delivery goes on by itself only after its event was
	// parked, and both may be in this batch.
	if len(events) > 0 {
		r.insist(events, r.writeEvents)
	}
	if len(jobs) > 0 {
		r.insist(jobs, r.writeJobs)
	}
}

func (r *recorder) writeEvents(ctx context.Context, entries []entry) error {
	kept, err := r.store.recordEvents(ctx, entries)
	if err != nil {
		return err
	}
	return r.recordedEvents(ctx, entries, kept)
}

// recordedEvents reports entries as done, and keeps what left for events that
// were deleted meanwhile. some are the seqs that were written; nil means all.
func (r *recorder) recordedEvents(ctx context.Context, entries []entry, some map[int64]bool) error {
	kept := func(en entry) bool { return some == nil || some[en.event.seq] }
	var gone []entry
	for _, en := range entries {
		if kept(en) {
			continue
		}
		// Of an event that was deleted, what never left need not be known. What the ledger
		// knows already was adopted, and due at no time since.
		en.rows = slices.DeleteFunc(slices.Clone(en.rows), func(r row) bool { return r.state == dispatch.Ready && !r.job.known })
		if len(en.rows) > 0 {
			gone = append(gone, en)
		}
	}
	if len(gone) > 0 {
		written, err := r.store.recordOrphans(ctx, gone)
		if err != nil {
			return err
		}
		for i := range entries {
			entries[i].orphan = slices.ContainsFunc(entries[i].rows, func(r row) bool { return written[r.job.ID] })
		}
	}
	r.passTurns(ctx, linesOf(entries)) // where what the ledger had of them stands in one
	for _, en := range entries {
		r.done(en, kept(en))
	}
	return nil
}

func (r *recorder) writeJobs(ctx context.Context, entries []entry) error {
	kept, err := r.store.recordDeliveries(ctx, entries)
	if err != nil {
		return err
	}
	r.passTurns(ctx, linesOf(entries))
	for _, en := range entries {
		r.done(en, kept[en.job.ID])
	}
	return nil
}

// recordLate is after what time a write that is under way counts as one that fails: a
// server that hangs is not to be found out by a timeout, while workers go on with all
// that is held. What a locked row costs is less (lock_timeout of settings).
const recordLate = 2 * time.Second

// trouble is that of one batch: from the first write of it that fails, or is late, until
// it is written.
type trouble struct {
	recorder *recorder

	mu   sync.Mutex
	on   bool
	over bool
}

func (t *trouble) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.on && !t.over {
		t.on = true
		t.recorder.trouble.Add(1)
	}
}

func (t *trouble) begun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.on
}

// end is called when the batch is written, or no patience is left: then it stays as it
// is, so that nothing is begun on the way out.
func (t *trouble) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.on && t.recorder.stop.Err() == nil {
		t.on = false
		t.recorder.again.Store(monotonic(time.Now()))
		t.recorder.trouble.Add(-1)
	}
}

// insist has entries written, whatever it takes: it waits for the database,
// steps around rows that somebody else has locked, and takes a batch apart
// that has something in it which the database refuses.
func (r *recorder) insist(entries []entry, write func(context.Context, []entry) error) {
	sortBySeq(entries)
	if hasTwins(entries) {
		first, again := unique(entries, entry.key)
		r.insist(first, write)
		r.insist(again, write)
		return
	}
	in := &trouble{recorder: r}
	defer in.end()
	for try, twins := 1, 0; ; try++ {
		late := r.late(in, len(entries))
		err := write(r.stop, entries)
		late.Stop()
		switch {
		case err == nil:
			if in.begun() {
				r.sparse.say(slog.LevelInfo, "outcomes are being recorded again", "count", len(entries), "tries", try)
			}
			return
		case r.stop.Err() != nil:
			in.begin() // see keepLeftover
			return
		case isLocked(err):
			var outage error
			if entries, outage = r.stepAround(in, entries, write); outage != nil {
				r.failed(in, outage, len(entries), try)
			} else if len(entries) == 0 {
				return
			}
		case isTwin(err) && twins < 3:
			// The row was announced after our statement had taken its
			// snapshot: the next one sees it.
			twins++
		case isRefused(err):
			if len(entries) > 1 {
				half := len(entries) / 2
				r.insist(entries[:half], write)
				r.insist(entries[half:], write)
				return
			}
			if entries[0].plain {
				r.log.Error("outcome cannot be recorded; its lease will run out", "event", entries[0].eventID(), "error", err)
				r.done(entries[0], false)
				return
			}
			r.log.Error("outcome recorded without its texts, which the database refuses", "event", entries[0].eventID(), "error", err)
			entries = []entry{entries[0].withoutTexts()}
		case errors.Is(err, context.DeadlineExceeded) && len(entries) > 1:
			in.begin()
			half := len(entries) / 2
			r.insist(entries[:half], write)
			r.insist(entries[half:], write)
			return
		default:
			r.failed(in, err, len(entries), try)
		}
	}
}

// late has writing count entries, of which a part begins now, count as one that fails
// where that part takes long. Whoever has it done stops the timer.
func (r *recorder) late(in *trouble, count int) *time.Timer {
	return time.AfterFunc(recordLate, func() {
		in.begin()
		r.sparse.warn("outcomes are slow to be recorded; nothing new is begun meanwhile", fmt.Errorf("no answer for %s", recordLate), "count", count)
	})
}

// failed notes that nothing can be written for the time being, and waits.
func (r *recorder) failed(in *trouble, err error, count, try int) {
	in.begin()
	r.sparse.warn("outcomes not recorded; trying again, nothing new is begun", err, "count", count, "try", try)
	wait(r.stop, pause(try))
}

// hasTwins reports whether entries, which are in order, have one event, or one delivery,
// more than once.
func hasTwins(entries []entry) bool {
	for i := 1; i < len(entries); i++ {
		if entries[i].key() == entries[i-1].key() {
			return true
		}
	}
	return false
}

// unique takes apart what has one event, or one delivery, more than once. That
// happens where a server that crashed forgot a claim of ours, or where a lease
// of ours ran out and we claimed again: one of the two is fenced off, and the
// answer to a batch does not say which.
func unique[T any, K comparable](items []T, key func(T) K) (first, again []T) {
	seen := make(map[K]bool, len(items))
	for i, item := range items {
		k := key(item)
		switch {
		case seen[k]:
			if again == nil {
				first = slices.Clone(items[:i])
			}
			again = append(again, item)
		case again != nil:
			first = append(first, item)
		}
		seen[k] = true
	}
	if again == nil {
		return items, nil
	}
	return first, again
}

// entryKey is what an entry is about: an event, or a delivery.
type entryKey struct {
	seq int64
	id  uuid.UUID // zero for an event
}

func (en entry) key() entryKey {
	k := entryKey{seq: en.seq()}
	if en.job != nil {
		k.id = en.job.ID
	}
	return k
}

// busyAgain is when an outcome is tried again whose row somebody else had
// locked.
const busyAgain = 500 * time.Millisecond

// stepAround puts off the entries whose rows are locked, and returns the
// others. Where it cannot tell which those are, it tries each by itself, and returns
// those that failed for another reason. An error says that there is no way around: the
// database is away, or a whole table is locked.
func (r *recorder) stepAround(in *trouble, entries []entry, write func(context.Context, []entry) error) (free []entry, err error) {
	defer r.late(in, len(entries)).Stop()
	busy, err := r.store.busyEvents(r.stop, entries)
	if err != nil {
		return entries, err
	}
	later := func(en entry) {
		if r.avoided != nil {
			r.avoided(en)
		}
		time.AfterFunc(r.rest, func() { r.add(en) })
	}
	for _, en := range entries {
		if busy[en.seq()] {
			later(en)
		} else {
			free = append(free, en)
		}
	}
	if len(free) < len(entries) {
		return free, nil
	}
	var failed []entry
	for i, en := range entries {
		switch err := write(r.stop, []entry{en}); {
		case err == nil:
		case isLocked(err):
			later(en)
		case isRefused(err):
			failed = append(failed, en)
		default:
			return append(failed, entries[i:]...), nil // so would the others, most likely
		}
	}
	return failed, nil
}
