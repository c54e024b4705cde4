package listener

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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
}

func (en entry) eventID() uuid.UUID {
	if en.job != nil {
		return en.job.EventID
	}
	return en.event.ID
}

// recorder writes outcomes, many at a time. A record that cannot be written
// is tried until it is, or until its fence is gone; meanwhile nothing new is
// begun.
type recorder struct {
	store   *store
	log     *slog.Logger
	done    func(entry, bool) // called for each entry; false when it was fenced off
	failing atomic.Bool       // the last write did not succeed
	stop    context.Context   // ends when no more patience is left
	*batcher[entry]
}

func newRecorder(stop context.Context, s *store, log *slog.Logger, done func(entry, bool)) *recorder {
	r := &recorder{store: s, log: log, done: done, stop: stop}
	r.batcher = newBatcher(1000, r.write)
	return r
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
		kept := map[int64]bool{}
		r.insist("events", len(events), func(ctx context.Context) (err error) {
			kept, err = r.store.recordEvents(ctx, events)
			return err
		})
		var gone []entry
		for _, en := range events {
			if !kept[en.event.seq] {
				gone = append(gone, en)
			}
		}
		if len(gone) > 0 {
			r.insist("orphans", len(gone), func(ctx context.Context) error {
				return r.store.recordOrphans(ctx, gone)
			})
		}
		for _, en := range events {
			r.done(en, kept[en.event.seq])
		}
	}
	if len(jobs) > 0 {
		kept := map[uuid.UUID]bool{}
		r.insist("deliveries", len(jobs), func(ctx context.Context) (err error) {
			kept, err = r.store.recordDeliveries(ctx, jobs)
			return err
		})
		for _, en := range jobs {
			r.done(en, kept[en.job.ID])
		}
	}
}

// insist repeats f until it succeeds or patience ends.
func (r *recorder) insist(what string, n int, f func(context.Context) error) {
	for try := 1; ; try++ {
		err := f(r.stop)
		if err == nil {
			if r.failing.Swap(false) {
				r.log.Info("outcomes are being recorded again", "what", what, "count", n, "tries", try)
			}
			return
		}
		r.failing.Store(true)
		if r.stop.Err() != nil {
			r.log.Error("outcomes not recorded; what was sent may be sent again", "what", what, "count", n, "error", err)
			return
		}
		r.log.Warn("outcomes not recorded; trying again, nothing new is begun", "what", what, "count", n, "try", try, "error", err)
		wait(r.stop, pause(try))
	}
}

// row is one line of the ledger.
type row struct {
	job        *job
	outcome    *dispatch.Outcome // as it was when the row was made; the job may go on
	state      dispatch.State
	attempts   int
	providerID *string
	lastError  *string
	dueIn      *float64 // seconds
	content    *string
}

// ledgerRow says how the ledger is to have j: as its outcome, or as being
// worked on under the lease where it has none yet.
func (j *job) ledgerRow(ttl time.Duration) row {
	r := row{job: j, outcome: j.outcome, attempts: j.attempts}
	if j.lastError != "" {
		r.lastError = &j.lastError
	}
	if j.outcome == nil {
		r.state = dispatch.Ready
		if j.begun {
			r.state = dispatch.Sending
			r.attempts++
		}
		r.dueIn = seconds(ttl)
		r.content = text(j.Content)
		return r
	}
	o := j.outcome
	r.state, r.attempts = o.State, o.Attempts
	if o.Receipt.ProviderID != "" {
		r.providerID = &o.Receipt.ProviderID
	}
	if msg := outcomeText(o); msg != "" {
		r.lastError = &msg
	}
	if !o.State.Terminal() && o.State != dispatch.Held {
		r.dueIn = seconds(j.wait)
	}
	if o.State != dispatch.Delivered && o.State != dispatch.Skipped {
		r.content = text(j.Content)
	}
	return r
}

// outcomeText is what the ledger and the log tell people about an outcome.
func outcomeText(o *dispatch.Outcome) string {
	switch {
	case o.Err != nil && o.Reason != "":
		return o.Reason + ": " + dispatch.MaskText(o.Err.Error())
	case o.Err != nil:
		return dispatch.MaskText(o.Err.Error())
	}
	return o.Reason
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// columns are rows of the ledger as arrays, in the order of record_events.sql.
type columns struct {
	seqs                    []int64
	ids                     []*uuid.UUID // null where an event has no delivery
	events                  []uuid.UUID
	types                   []string
	created                 []time.Time
	routes, steps, channels []string
	recipients, states      []string
	attempts, generations   []int
	providers, lastErrors   []*string
	due                     []*float64
	claims                  []uuid.UUID
	contents                []*string
	attemptRows             attemptColumns
}

func (c *columns) add(r row) {
	j := r.job
	c.seqs = append(c.seqs, j.seq)
	c.ids = append(c.ids, &j.ID)
	c.events = append(c.events, j.EventID)
	c.types = append(c.types, j.Type)
	c.created = append(c.created, j.Date)
	c.routes = append(c.routes, j.Route)
	c.steps = append(c.steps, j.Step)
	c.channels = append(c.channels, string(j.Channel))
	c.recipients = append(c.recipients, dispatch.Mask(j.Channel, j.Recipient))
	c.states = append(c.states, string(r.state))
	c.attempts = append(c.attempts, r.attempts)
	c.generations = append(c.generations, j.generation)
	c.providers = append(c.providers, r.providerID)
	c.lastErrors = append(c.lastErrors, r.lastError)
	c.due = append(c.due, r.dueIn)
	c.claims = append(c.claims, j.lease.claim)
	c.contents = append(c.contents, r.content)
	c.attemptRows.add(r)
}

// addNone adds the row of an event that has no delivery to write.
func (c *columns) addNone(e *event) {
	c.add(row{job: &job{Delivery: dispatch.Delivery{EventID: e.ID, Type: e.Type, Date: e.CreatedAt}, seq: e.seq, lease: e.lease}})
	c.ids[len(c.ids)-1] = nil
}

func (c *columns) args() []any {
	return []any{c.seqs, c.ids, c.events, c.types, c.created, c.routes, c.steps, c.channels, c.recipients,
		c.states, c.attempts, c.generations, c.providers, c.lastErrors, c.due, c.claims, c.contents}
}

// attemptColumns are rows of outbox.attempts: attempts that were not simply
// taken.
type attemptColumns struct {
	ids      []uuid.UUID
	attempts []int
	took     []float64
	states   []string
	kinds    []string
	statuses []*int
	errors   []string
}

func (a *attemptColumns) add(r row) {
	if r.outcome == nil || r.outcome.Err == nil {
		return
	}
	j, o := r.job, r.outcome
	a.ids = append(a.ids, j.ID)
	a.attempts = append(a.attempts, j.Attempt)
	a.took = append(a.took, j.took.Seconds())
	a.states = append(a.states, string(o.State))
	a.kinds = append(a.kinds, string(o.Err.Kind))
	var status *int
	if o.Err.Status != 0 {
		status = &o.Err.Status
	}
	a.statuses = append(a.statuses, status)
	a.errors = append(a.errors, dispatch.MaskText(o.Err.Error()))
}

func (a *attemptColumns) queue(b *pgx.Batch) {
	if len(a.ids) > 0 {
		b.Queue(sqlRecordAttempts, a.ids, a.attempts, a.took, a.states, a.kinds, a.statuses, a.errors)
	}
}

// recordEvents writes whole events and returns the seqs that were still ours.
func (s *store) recordEvents(ctx context.Context, entries []entry) (map[int64]bool, error) {
	kept := make(map[int64]bool, len(entries))
	var first, further columns
	var parked []bool
	for _, en := range entries {
		parked = append(parked, anyOpen(en.rows))
		if len(en.rows) == 0 {
			first.addNone(en.event)
			continue
		}
		first.add(en.rows[0])
		for _, r := range en.rows[1:] {
			further.add(r)
		}
	}
	args := append(append(first.args(), parked), further.args()...)
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlRecordEvents, args...).Query(func(rows pgx.Rows) error {
			return each(rows, func(seq int64) { kept[seq] = true })
		})
		first.attemptRows.queue(b)
		further.attemptRows.queue(b)
	})
	return kept, err
}

// anyOpen reports whether a row keeps its event from being processed.
func anyOpen(rows []row) bool {
	for _, r := range rows {
		if !r.state.Terminal() && r.state != dispatch.Scheduled {
			return true
		}
	}
	return false
}

// recordOrphans writes the deliveries of events whose rows are gone.
func (s *store) recordOrphans(ctx context.Context, entries []entry) error {
	var cols columns
	for _, en := range entries {
		for _, r := range en.rows {
			cols.add(r)
		}
	}
	return s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlRecordOrphans, cols.args()...)
	})
}

// recordDeliveries writes deliveries that are on their own, settles their
// events, and returns the ids that were still ours.
func (s *store) recordDeliveries(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	kept := make(map[uuid.UUID]bool, len(entries))
	var seqs []int64
	var ids, claims []uuid.UUID
	var states []string
	var attempts []int
	var providers, lastErrors []*string
	var due []*float64
	var tries attemptColumns
	for _, en := range entries {
		r := en.job.ledgerRow(s.lease)
		seqs = append(seqs, en.job.seq)
		ids = append(ids, en.job.ID)
		claims = append(claims, en.job.lease.claim)
		states = append(states, string(r.state))
		attempts = append(attempts, r.attempts)
		providers = append(providers, r.providerID)
		lastErrors = append(lastErrors, r.lastError)
		due = append(due, r.dueIn)
		tries.add(r)
	}
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlLockEvents, seqs)
		b.Queue(sqlRecordDeliveries, ids, claims, states, attempts, providers, lastErrors, due).Query(func(rows pgx.Rows) error {
			return each(rows, func(id uuid.UUID) { kept[id] = true })
		})
		tries.queue(b)
		b.Queue(sqlSettleEvents, seqs)
	})
	return kept, err
}
