package listener

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// frozen reports whether the deliveries have to be on record, with their
// content, before any of them is sent.
func frozen(jobs []*job) bool {
	return slices.ContainsFunc(jobs, func(j *job) bool { return j.terms().Freeze })
}

// freeze has e parked with all its deliveries. What can be sent goes on once
// they are on record: see thaw.
func (l *Listener) freeze(e *event) {
	e.mu.Lock()
	for _, j := range e.jobs {
		if o, settled := j.planned(); settled {
			j.outcome = &o
		}
	}
	l.awaitWord(e)
	var open []*job
	for _, j := range e.jobs {
		if j.outcome != nil {
			continue
		}
		j.blocked, j.afterLater = e.blocks(j)
		if j.blocked = j.blocked || j.ordered(); !j.blocked {
			open = append(open, j)
		}
	}
	e.parked, e.parking, e.left = true, true, len(open)
	en := entry{event: e, rows: e.rows(l.store.ttl()), open: open, frozen: true, until: heldFor(l.store.ttl())}
	e.mu.Unlock()
	l.recorder.add(en)
}

// blocks reports whether a step that j waits for is still to be delivered, and
// whether one of them is for later. The record of the last of them makes j due;
// where the plan has ended all of them, there will be no such record, and j goes on
// like any other.
func (e *event) blocks(j *job) (blocked, later bool) {
	if !j.waiting() {
		return false, false
	}
	for _, o := range e.jobs {
		if o.Route != j.Route || !slices.Contains(j.terms().After, o.Step) || o.outcome != nil && o.outcome.State.Terminal() {
			continue
		}
		blocked, later = true, later || o.afterLater || o.outcome != nil && o.outcome.State == dispatch.Scheduled
	}
	return blocked, later
}

// planned is the outcome of j where its plan has it already.
func (j *job) planned() (o dispatch.Outcome, settled bool) {
	if o, settled = j.settled(); settled {
		return o, true
	}
	t := j.terms()
	o.Attempts = j.attempts
	switch {
	case j.state == dispatch.Held: // it is for a person, and keeps its time
		o.State, o.Reason = dispatch.Held, j.lastError
	case t.Late != "" && j.state != dispatch.Sending && j.state != dispatch.Uncertain: // those may have arrived
		o.State, o.Reason = dispatch.Expired, t.Late
	case j.standsIn():
		o.State = dispatch.Scheduled
	case !t.At.IsZero() && (!j.known || j.state == dispatch.Scheduled):
		o.State = dispatch.Scheduled
	default:
		return o, false
	}
	return o, true
}

// thaw goes on with an event that is on record with all its deliveries.
func (l *Listener) thaw(en entry, canceled map[uuid.UUID]string) {
	e := en.event
	gone := func(j *job) bool { _, is := canceled[j.ID]; return is }
	open := slices.DeleteFunc(slices.Clone(en.open), gone)
	for _, j := range e.jobs {
		if j.outcome != nil && j.outcome.State == dispatch.Scheduled {
			due := j.wait // zero but for what stands in for another
			if !j.standsIn() {
				due = time.Until(j.terms().At)
			}
			l.noteDue(due)
		}
		if gone(j) {
			j.outcome = &dispatch.Outcome{State: dispatch.Canceled, Reason: "superseded by a newer event", Attempts: j.attempts}
		}
		if j.outcome != nil {
			logAttempt(l.log, j)
		}
	}
	e.mu.Lock()
	e.parking, e.left = false, len(open)
	empty := e.lease.park(e, open, en.until)
	e.mu.Unlock()
	if empty {
		l.leases.remove(e.lease)
	}
	if len(open) == 0 {
		l.settle(e, true)
		return
	}
	for _, j := range open {
		j.known = true
		if j.state == "" {
			j.state = dispatch.Ready
		}
		l.address(j)
	}
	l.queue.launch(e, open)
}

// freezes are events whose deliveries are frozen; those that supersede others
// have a transaction of their own, since they lock more than their own rows.
func (r *recorder) freeze(entries []entry) {
	var many []entry
	for _, en := range entries {
		if len(en.keys()) > 0 {
			r.insist([]entry{en}, r.writeFrozen)
		} else {
			many = append(many, en)
		}
	}
	if len(many) > 0 {
		r.insist(many, r.writeFrozen)
	}
}

func (r *recorder) writeFrozen(ctx context.Context, entries []entry) error {
	kept, canceled, err := r.store.freeze(ctx, entries)
	if err != nil {
		return err
	}
	if adopted := adoptedOf(entries, kept); len(adopted) > 0 {
		if err := r.store.disown(ctx, adopted); err != nil {
			return err
		}
	}
	lines := linesOf(entries)
	for _, line := range canceled { // older ones may have stood in other lines than what supersedes them
		if line != "" {
			lines = append(lines, line)
		}
	}
	r.passTurns(ctx, lines)
	for _, en := range entries {
		if kept[en.event.seq] {
			r.thaw(en, canceled)
		} else {
			r.done(en, false)
		}
	}
	return nil
}

// adoptedOf are the deliveries of entries that are not kept which the ledger has: where
// their event was deleted they are nobody's otherwise, and due at no time.
func adoptedOf(entries []entry, kept map[int64]bool) (jobs []*job) {
	for _, en := range entries {
		for _, r := range en.rows {
			if !kept[en.event.seq] && r.job.known {
				jobs = append(jobs, r.job)
			}
		}
	}
	return jobs
}

// disown gives up jobs, which were adopted, where their event was deleted since. Where it
// was taken over they are somebody's, and nothing is done.
func (s *store) disown(ctx context.Context, jobs []*job) error {
	ids, claims := jobFences(jobs)
	waits, released := make([]bool, len(jobs)), 0
	for i, j := range jobs {
		waits[i] = slices.ContainsFunc(jobs, func(o *job) bool {
			return o.event == j.event && o.Route == j.Route && j.waiting() && slices.Contains(j.terms().After, o.Step)
		})
	}
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlDisownDeliveries, ids, claims, waits).Query(func(rows pgx.Rows) error {
			return eachID(rows, func(uuid.UUID) { released++ })
		})
	})
	s.tellDue(err, released)
	return err
}

// key is a business key with the step that it holds for.
type key struct{ key, step string }

// keys are what the entry supersedes by.
func (en entry) keys() []key {
	var out []key
	for _, r := range en.rows {
		if k := r.job.terms().Supersedes; k != "" {
			out = append(out, key{clean(k), clean(r.job.Step)})
		}
	}
	return out
}

// frozenEvent and frozenRow are what freeze_events.sql takes.
type frozenEvent struct {
	Seq    int64     `json:"seq"`
	Claim  uuid.UUID `json:"claim"`
	Parked bool      `json:"parked"`
}

type frozenRow struct {
	Seq        int64             `json:"event_seq"`
	ID         uuid.UUID         `json:"id"`
	Event      uuid.UUID         `json:"event_id"`
	Type       string            `json:"event_type"`
	CreatedAt  time.Time         `json:"event_created_at"`
	Route      string            `json:"route"`
	Step       string            `json:"step"`
	Channel    string            `json:"channel"`
	Recipient  string            `json:"recipient"`
	State      dispatch.State    `json:"state"`
	Attempts   int               `json:"attempts"`
	Generation int               `json:"generation"`
	Required   bool              `json:"required"`
	LastError  *string           `json:"last_error"`
	DueIn      *float64          `json:"due_in"`
	At         *time.Time        `json:"at"`
	Content    *string           `json:"content"` // as text, since encoding JSON in JSON changes its bytes
	Deadline   *time.Time        `json:"deadline"`
	Retry      *dispatch.Retries `json:"retry"`
	Supersedes *string           `json:"supersedes"`
	After      []string          `json:"after_steps"`
	Scope      *string           `json:"scope"`
	Copy       *string           `json:"copy"`
	InsteadOf  *string           `json:"instead_of"`
	Leased     bool              `json:"leased"`
	Ordering   *string           `json:"ordering_key"`
}

func (r row) frozen() frozenRow {
	j, t := r.job, r.job.terms()
	f := frozenRow{
		Seq: j.seq, ID: j.ID, Event: j.EventID, Type: clean(j.Type), CreatedAt: j.Date,
		Route: clean(j.Route), Step: clean(j.Step), Channel: clean(string(j.Channel)), Recipient: clean(dispatch.Mask(j.Channel, j.Recipient)),
		State: r.state, Attempts: r.attempts, Generation: j.generation, Required: !t.Optional && !j.afterLater,
		LastError: r.lastError, Content: r.content, DueIn: r.dueIn, Supersedes: nonEmpty(clean(t.Supersedes)), Copy: nonEmpty(clean(t.Copy)), InsteadOf: nonEmpty(clean(t.InsteadOf)),
		Leased: r.outcome == nil && !j.blocked,
	}
	held := r.state == dispatch.Held && j.state == dispatch.Held // and stays so as it is
	if r.state == dispatch.Scheduled && !j.standsIn() || held && !t.At.IsZero() {
		f.At, f.DueIn = onCalendar(t.At), nil
	}
	if !t.Deadline.IsZero() {
		f.Deadline = onCalendar(t.Deadline)
	}
	if t.Retry != (dispatch.Retries{}) {
		f.Retry = &t.Retry
	}
	if j.waiting() {
		f.After, f.Scope = t.After, text(t.Scope)
	}
	if (r.outcome == nil || held) && j.ordered() {
		f.Ordering = nonEmpty(clean(t.Ordering))
	}
	if r.outcome == nil && j.blocked {
		f.DueIn = nil
	}
	return f
}

// onCalendar is t, or where neither JSON nor Postgres has such a year, the first or
// the last moment of those that both have. To wait for it, or to be late, is the same.
func onCalendar(t time.Time) *time.Time {
	t = t.UTC()
	switch {
	case t.Year() < 1:
		t = time.Time{}
	case t.Year() > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return &t
}

// freeze writes whole events with all their deliveries. It returns the seqs
// that were still ours, and which deliveries a newer event has superseded, of these
// events or older ones, each with the line that it stood in, "" for none.
func (s *store) freeze(ctx context.Context, entries []entry) (kept map[int64]bool, canceled map[uuid.UUID]string, err error) {
	kept, canceled = map[int64]bool{}, map[uuid.UUID]string{}
	sortBySeq(entries)
	var events []frozenEvent
	var rows []frozenRow
	var keys, steps []string
	for _, en := range entries {
		parked := false
		for _, r := range en.rows {
			f := r.frozen()
			rows = append(rows, f)
			parked = parked || f.Required && !f.State.Terminal() && f.State != dispatch.Scheduled
		}
		events = append(events, frozenEvent{en.event.seq, en.event.lease.claim, parked})
		for _, k := range en.keys() {
			keys, steps = append(keys, k.key), append(steps, k.step)
		}
	}
	es, err := json.Marshal(events)
	if err != nil {
		return nil, nil, err
	}
	rs, err := json.Marshal(rows)
	if err != nil {
		return nil, nil, err
	}
	var older []int64
	var gone uuids
	released := 0
	note := func(rows pgx.Rows) error { return each(rows, func(seq int64) { kept[seq] = true }) }
	if len(keys) == 0 {
		err = s.tx(ctx, durable, func(b *pgx.Batch) { b.Queue(sqlFreezeEvents, string(es), string(rs)).Query(note) })
		return kept, canceled, err
	}
	err = s.inTx(ctx, dbTimeout, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(sqlLockKeys, keys)
		b.Queue(sqlLockSuperseded, keys, steps, entries[0].event.seq)
		b.Queue(sqlLockOrphaned, keys, steps)
		b.Queue(sqlFreezeEvents, string(es), string(rs)).Query(note)
		b.Queue(sqlSupersede, keys, steps).Query(func(rows pgx.Rows) error {
			var id [16]byte
			var seq int64
			var line string
			_, err := pgx.ForEachRow(rows, []any{&id, &seq, &line}, func() error {
				canceled[id] = line
				gone.add(id)
				older = append(older, seq)
				return nil
			})
			return err
		})
		if err := tx.SendBatch(ctx, &b).Close(); err != nil || len(older) == 0 {
			return err
		}
		var after pgx.Batch
		s.releaseFollowers(&after, gone, &released)
		after.Queue(sqlSettleEvents, older)
		return tx.SendBatch(ctx, &after).Close()
	})
	s.tellDue(err, released)
	return kept, canceled, err
}
