package listener

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// keepLeftover has what is not on record when the listener ends written to the
// state directory, so that the next start records it; or it says how much that is. What providers asked for
// stands before the outcomes that asked for it; it may be put on record yet, and then is so for longer.
// Nobody adds outcomes any more but senders that were left behind.
func (l *Listener) keepLeftover() {
	records, outcomes := l.leftover()
	pauses := l.brakes.leftover()
	if outcomes+len(pauses) == 0 {
		return
	}
	records = append(pauses, records...)
	const lost = "stopped with outcomes that are not on record; their leases will run out, and what was sent may be sent again"
	if l.cfg.StateDir == "" {
		l.log.Warn(lost, "count", outcomes, "pauses", len(pauses), "mend", "with OUTBOX_STATE_DIR (or systemd's StateDirectory=) they would be in a file there, and recorded at the next start")
		return
	}
	path, err := spoolDir(l.cfg.StateDir).write(l.database, records)
	if path == "" {
		l.log.Error(lost, "count", outcomes, "pauses", len(pauses), "dir", l.cfg.StateDir, "error", err)
		return
	}
	if err != nil {
		l.log.Error("outcomes are kept in a file that may not be on disk", "file", path, "error", err)
	}
	l.log.Warn("stopped with outcomes that are not on record; they are kept in a file, and recorded at the next start", "count", outcomes, "pauses", len(pauses), "file", path)
}

// leftover returns the pauses that providers asked for and the database is not known to have.
func (bs *brakes) leftover() (records []spooled) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for name, p := range bs.puts {
		if left := time.Until(p.until); left > 0 {
			records = append(records, spooled{Pause: &spooledWish{name, p.reason, left.Seconds()}})
		}
	}
	return records
}

// leftover returns what has an outcome and is not known to be on record, and how
// many outcomes that is.
func (l *Listener) leftover() (records []spooled, outcomes int) {
	for _, ls := range l.leases.snapshot() {
		events, jobs := ls.held()
		slices.SortFunc(events, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
		slices.SortFunc(jobs, func(a, b *job) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		for _, e := range events {
			some, n := l.leftoverOf(e)
			records, outcomes = append(records, some...), outcomes+n
		}
		for _, j := range jobs {
			if r, ok := l.leftoverJob(j); ok {
				records, outcomes = append(records, r), outcomes+1
			}
		}
	}
	// Events first, as everywhere: a delivery goes on by itself only after its
	// event was parked.
	slices.SortStableFunc(records, func(a, b spooled) int {
		return cmp.Compare(btoi(a.Delivery != nil), btoi(b.Delivery != nil))
	})
	return records, outcomes
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// leftoverOf is what is left of an event, whole, or as it was to be parked together
// with what came of its deliveries since. Of one that is frozen nothing has left.
func (l *Listener) leftoverOf(e *event) (records []spooled, outcomes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parked && !e.parking || e.over.Load() {
		return nil, 0
	}
	rows := e.asParked
	if !e.parked {
		if len(e.jobs) == 0 || !slices.ContainsFunc(e.jobs, (*job).worthKeeping) {
			return nil, 0
		}
		rows = e.rows(l.store.ttl())
	}
	if len(rows) == 0 {
		return nil, 0
	}
	whole := spooled{Claim: e.lease.claim, Seq: e.seq, Event: e.ID, Type: clean(e.Type), CreatedAt: *onCalendar(e.CreatedAt)}
	for _, r := range rows {
		whole.Deliveries = append(whole.Deliveries, r.spool())
		if r.outcome != nil && r.job.worthKeeping() {
			outcomes++
		}
	}
	records = append(records, whole)
	for _, j := range e.after {
		if j.worthKeeping() {
			records, outcomes = append(records, j.spool(l)), outcomes+1
		}
	}
	if outcomes == 0 {
		return nil, 0
	}
	return records, outcomes
}

// leftoverJob is what is left of a delivery that is on its own.
func (l *Listener) leftoverJob(j *job) (spooled, bool) {
	if e := j.event; e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
	} else {
		j.lease.mu.Lock()
		defer j.lease.mu.Unlock()
	}
	if !j.worthKeeping() || j.over.Load() {
		return spooled{}, false
	}
	return j.spool(l), true
}

// worthKeeping reports whether j was attempted, looked for or settled, and not
// merely not begun; of what was announced, the ledger has to hear that too.
func (j *job) worthKeeping() bool { return j.outcome != nil && (!j.idle || j.announced) }

// spool is the record of a delivery that is on its own.
func (j *job) spool(l *Listener) spooled {
	r := j.ledgerRow(l.store.ttl()).spool()
	r.Content = nil // the ledger has it
	r.Answer = text(j.answer(false))
	return spooled{Claim: j.lease.claim, Seq: j.seq, Event: j.EventID, Delivery: &r}
}

// spool is r as a spool has it.
func (r row) spool() spooledRow {
	j := r.job
	out := spooledRow{
		ID: j.ID, Route: clean(j.Route), Step: clean(j.Step), Channel: clean(string(j.Channel)), Recipient: r.recipient(),
		State: r.state, Attempts: r.attempts, Generation: j.generation, ProviderID: r.providerID, LastError: r.lastError,
		DueIn: r.dueIn, Content: r.content, Open: r.outcome == nil,
	}
	var tries attemptColumns
	if tries.add(r); len(tries.ids) > 0 {
		out.Tried = &spooledTry{Attempt: tries.attempts[0], Took: tries.took[0], State: dispatch.State(tries.states[0]),
			Kind: dispatch.Kind(tries.kinds[0]), Status: tries.statuses[0], Error: tries.errors[0]}
	}
	return out
}

// entry is a record that was kept, to be written as any other.
func (s spooled) entry() entry {
	ls := newLeaseOf(s.Claim)
	one := func(r spooledRow) row {
		j := &job{
			Delivery: dispatch.Delivery{ID: r.ID, EventID: s.Event, Type: s.Type, Date: s.CreatedAt,
				Message: dispatch.Message{Route: r.Route, Step: r.Step, Channel: dispatch.Channel(r.Channel)}},
			seq: s.Seq, generation: r.Generation, lease: ls, known: true,
		}
		if !r.Open {
			j.outcome = &dispatch.Outcome{State: r.State, Attempts: r.Attempts}
			if r.Answer != nil {
				j.outcome.Receipt.Answer = []byte(*r.Answer)
			}
		}
		return row{job: j, outcome: j.outcome, state: r.State, attempts: r.Attempts, providerID: r.ProviderID,
			lastError: r.LastError, dueIn: r.DueIn, content: r.Content, kept: &r}
	}
	if s.Delivery != nil {
		r := one(*s.Delivery)
		return entry{job: r.job, rows: []row{r}}
	}
	e := &event{Event: dispatch.Event{ID: s.Event, Type: s.Type, CreatedAt: s.CreatedAt}, seq: s.Seq, lease: ls, again: true}
	en := entry{event: e}
	for _, r := range s.Deliveries {
		en.rows = append(en.rows, one(r))
	}
	return en
}

// identify asks which database this is, in the words of database_identity.sql.
func (s *store) identify(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, sqlDatabaseIdentity).Scan(&id)
	return id, err
}
