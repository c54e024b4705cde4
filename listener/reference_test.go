package listener

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/sql"
)

// reference is the ledger protocol in memory: what each statement in sql/queries says
// it does, without a database. Its methods have the names of those of store.
type reference struct {
	events map[uuid.UUID]*refEvent
	rows   map[uuid.UUID]*refRow
	tries  map[try]dispatch.Kind // attempts that were not simply taken
	names  map[uuid.UUID]string  // of the claims that were made, and of their successors
	lease  time.Duration
	now    func() time.Time
}

// never is null, and forever infinity.
var (
	never   time.Time
	forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// class is a time as far as the protocol tells times apart. What is soon is so before
// a lease that is taken now has run out.
func (m *reference) class(t time.Time) string {
	now := m.now()
	switch {
	case t.IsZero():
		return "-"
	case t.Equal(forever):
		return "forever"
	case !t.After(now):
		return "past"
	case !t.After(now.Add(m.lease + time.Second)):
		return "soon"
	}
	return "later"
}

func (m *reference) over(t time.Time) bool  { return !t.IsZero() && !t.After(m.now()) }
func (m *reference) ahead(t time.Time) bool { return t.After(m.now()) }
func (m *reference) soon() time.Time        { return m.now().Add(m.lease) }

// The claims that are nobody's: of what something newer stands for, and of what is put off.
var (
	replaced = uuid.MustParse(sql.Replaced)
	absentee = uuid.MustParse(sql.PutOff)
)

// someone is a claim that nobody knows.
var someone = uuid.MustParse("ffffffff-ffff-4fff-8fff-ffffffffffff")

type refEvent struct {
	id        uuid.UUID
	seq       int64
	processed bool
	lease     time.Time // until when somebody has it
	claim     uuid.UUID // zero: null

	typ    string // for the simulation
	at     time.Time
	hidden bool      // its transaction is still open
	seen   time.Time // when it was committed
}

type refRow struct {
	id, event  uuid.UUID
	seq        int64
	step       string
	state      dispatch.State
	attempts   int
	generation int
	required   bool
	provider   string
	due        time.Time
	claim      uuid.UUID
	looks      int

	ordering, line string
	turn           time.Time // when it got it
	after          []string
	scope          bool // what it is rendered from is there
	supersedes     string
	insteadOf      string
	receipt        dispatch.Fate
	code           string
	heldFrom       dispatch.State // "": null
	finished       time.Time
	made           time.Time

	of        dispatch.Delivery // for the simulation: what else the row says
	lastError string
	announced time.Time
	likeness  *int32
	looked    []looked
}

func newReference(lease time.Duration) *reference {
	return &reference{events: map[uuid.UUID]*refEvent{}, rows: map[uuid.UUID]*refRow{}, tries: map[try]dispatch.Kind{}, names: map[uuid.UUID]string{}, lease: lease, now: time.Now}
}

// name is what a claim is called in what is compared.
func (m *reference) name(claim uuid.UUID) string {
	switch claim {
	case uuid.Nil:
		return "-"
	case replaced:
		return "replaced"
	case absentee:
		return "put off"
	}
	return cmp.Or(m.names[claim], "?")
}

// bySeq returns the event that stands at seq, or nil.
func (m *reference) bySeq(seq int64) *refEvent {
	for _, e := range m.events {
		if e.seq == seq {
			return e
		}
	}
	return nil
}

func (m *reference) ordered() []*refEvent {
	return slices.SortedFunc(maps.Values(m.events), func(a, b *refEvent) int { return cmp.Compare(a.seq, b.seq) })
}

func (m *reference) rowsAt(seq int64) []*refRow {
	var out []*refRow
	for _, r := range m.rows {
		if r.seq == seq {
			out = append(out, r)
		}
	}
	return out
}

func (m *reference) held(seq int64, claim uuid.UUID) *refEvent {
	if e := m.bySeq(seq); e != nil && e.claim == claim {
		return e
	}
	return nil
}

func (m *reference) open(id, claim uuid.UUID) *refRow {
	if r := m.rows[id]; r != nil && r.claim == claim && !r.state.Terminal() {
		return r
	}
	return nil
}

// adopt is adopt_deliveries.sql. It returns what the rows were.
func (m *reference) adopt(seq int64, claim uuid.UUID) (have []refRow) {
	if e := m.held(seq, claim); e == nil || e.processed {
		return nil
	}
	for _, r := range m.rowsAt(seq) {
		have = append(have, *r)
		if !r.state.Terminal() {
			if r.claim = claim; r.state != dispatch.Scheduled && r.state != dispatch.Held {
				r.due = never
			}
		}
	}
	return have
}

// announce is announce_new.sql, or announce_again.sql where the row was known.
func (m *reference) announce(j *job) bool {
	claim, enough := j.lease.claim, m.now().Add(margin(m.lease))
	if j.known {
		r := m.open(j.ID, claim)
		if r == nil || !r.due.IsZero() && !r.due.After(enough) || r.provider != "" {
			return false
		}
		r.state, r.attempts = dispatch.Sending, j.attempts+1
		return true
	}
	e := m.held(j.seq, claim)
	if e == nil || e.processed || !e.lease.After(enough) {
		return false
	}
	if r := m.rows[j.ID]; r != nil {
		return r.claim == claim && r.state == dispatch.Sending
	}
	m.insert(row{job: j, state: dispatch.Sending, attempts: j.attempts + 1}, j.generation)
	return true
}

// dueIn is the time of a row that is written now.
func (m *reference) dueIn(r row) time.Time {
	if r.dueIn == nil {
		return never
	}
	return m.now().Add(time.Duration(*r.dueIn * float64(time.Second)))
}

func (m *reference) insert(r row, generation int) *refRow {
	made := &refRow{id: r.job.ID, event: r.job.EventID, seq: r.job.seq, step: r.job.Step, generation: generation, required: true, made: m.now()}
	// Attempt is written by whoever tries, and no column.
	made.of = dispatch.Delivery{ID: r.job.ID, EventID: r.job.EventID, Type: r.job.Type, Date: r.job.Date, Message: r.job.Message}
	m.rows[made.id] = made
	m.put(made, r)
	return made
}

// put writes r, with note_held.sql after it. What has its outcome is nobody's.
func (m *reference) put(to *refRow, r row) {
	if to.claim = uuid.Nil; r.outcome == nil {
		to.claim = r.job.lease.claim
	}
	proven := r.state == dispatch.Held && to.state != dispatch.Held && to.provider != ""
	if r.state != dispatch.Held || to.state != dispatch.Held {
		to.heldFrom = ""
	}
	m.become(to, r.state)
	if r.state == dispatch.Delivered {
		to.of.Content = nil
	}
	if to.attempts, to.due = r.attempts, m.dueIn(r); proven {
		to.state, to.due = dispatch.Uncertain, m.now()
	}
	if r.providerID != nil {
		to.provider = *r.providerID
	}
	to.lastError = deref(r.lastError)
}

// become gives r a state, and notes when it was over.
func (m *reference) become(r *refRow, state dispatch.State) {
	if r.state, r.finished = state, never; state.Terminal() {
		r.finished = m.now()
	}
}

// deref is what p points to, or "" for null.
func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// end has an event processed, or parked.
func (e *refEvent) end(parked bool) {
	if e.lease = never; parked {
		e.lease = forever
	} else {
		e.processed = true
	}
}

// recordEvent is record_events.sql for one event.
func (m *reference) recordEvent(en entry) bool {
	m.tried(en.rows...)
	e := m.held(en.event.seq, en.event.lease.claim)
	if e == nil {
		return false
	}
	e.end(anyOpen(en.rows))
	for _, r := range en.rows {
		m.upsert(r)
	}
	return true
}

func (m *reference) upsert(r row) (written bool) {
	if known := m.open(r.job.ID, r.job.lease.claim); known != nil {
		m.put(known, r)
		return true
	}
	if m.rows[r.job.ID] == nil {
		m.insert(r, r.job.generation)
		return true
	}
	return false
}

// recordFresh is record_fresh.sql for one event. twin says that it fails.
func (m *reference) recordFresh(en entry) (kept, twin bool) {
	e := m.held(en.event.seq, en.event.lease.claim)
	if e != nil && m.rows[en.rows[0].job.ID] != nil {
		return false, true
	}
	if m.tried(en.rows...); e == nil {
		return false, false
	}
	e.end(anyOpen(en.rows))
	m.insert(en.rows[0], 0)
	return true, false
}

// recordOrphans is record_orphans.sql for the rows of one event.
func (m *reference) recordOrphans(en entry) (ids []uuid.UUID) {
	for _, r := range en.rows {
		if m.events[r.job.EventID] == nil && m.upsert(r) {
			ids = append(ids, r.job.ID)
		}
	}
	return ids
}

// recordDelivery is record_deliveries.sql and settle_events.sql for one delivery.
func (m *reference) recordDelivery(j *job, r row) bool {
	m.tried(r)
	known := m.rows[j.ID]
	kept := known != nil && (known.claim == j.lease.claim || known.claim == j.lease.successor())
	if kept {
		m.put(known, r)
		known.claim = j.lease.successor()
	}
	m.settle(j.seq)
	return kept
}

func (m *reference) settle(seq int64) {
	e := m.bySeq(seq)
	if e == nil || e.processed || !e.lease.Equal(forever) {
		return
	}
	for _, r := range m.rowsAt(seq) {
		if r.required && !r.state.Terminal() && r.state != dispatch.Scheduled {
			return
		}
	}
	e.processed, e.lease = true, never
}

// freeze is freeze_events.sql for one event.
func (m *reference) freeze(en entry) bool {
	e := m.held(en.event.seq, en.event.lease.claim)
	if e == nil || e.processed && !e.lease.IsZero() && !e.lease.Equal(forever) {
		return false
	}
	parked := false
	for _, r := range en.rows {
		f := r.frozen()
		parked = parked || f.Required && !f.State.Terminal() && f.State != dispatch.Scheduled
	}
	e.end(parked)
	for _, r := range en.rows {
		f := r.frozen()
		known := m.rows[f.ID]
		switch {
		case known == nil:
			known = m.insert(r, f.Generation)
			known.provider, known.required, known.after = "", f.Required, f.After
			known.scope = f.Scope != nil
			known.supersedes, known.insteadOf = deref(f.Supersedes), deref(f.InsteadOf)
		case m.open(f.ID, r.job.lease.claim) == nil:
			continue
		default:
			if f.State != dispatch.Held || known.state != dispatch.Held {
				known.heldFrom = ""
			}
			m.become(known, f.State)
			known.attempts, known.lastError = f.Attempts, deref(f.LastError)
		}
		if known.claim = uuid.Nil; f.Leased {
			known.claim = r.job.lease.claim
		}
		r.dueIn = f.DueIn
		if known.due = m.dueIn(r); f.At != nil {
			known.due = *f.At
		}
		known.ordering, known.line, known.turn = deref(f.Ordering), deref(f.Ordering), never
	}
	return true
}

// disown is disown_deliveries.sql.
func (m *reference) disown(jobs []*job) {
	for _, j := range jobs {
		waits := slices.ContainsFunc(jobs, func(o *job) bool {
			return o.event == j.event && o.Route == j.Route && j.waiting() && slices.Contains(j.terms().After, o.Step)
		})
		r := m.open(j.ID, j.lease.claim)
		if r == nil || m.events[r.event] != nil {
			continue
		}
		if r.claim = uuid.Nil; r.due.IsZero() && r.state != dispatch.Held && !waits && (r.line == "" || !r.turn.IsZero()) {
			r.due = m.now()
		}
	}
}

func (m *reference) renewEvent(seq int64, claim uuid.UUID) bool {
	e := m.held(seq, claim)
	if e == nil || e.processed || e.lease.Equal(forever) {
		return false
	}
	e.lease = m.soon()
	return true
}

func (m *reference) renewDelivery(id, claim uuid.UUID) bool {
	r := m.open(id, claim)
	if r == nil || r.due.IsZero() || r.due.After(m.soon()) {
		return false
	}
	r.due = m.soon()
	return true
}

func (m *reference) releaseEvent(of *event) {
	e := m.held(of.seq, of.lease.claim)
	switch {
	case e == nil || e.processed || e.lease.Equal(forever):
	case of.absence > 0:
		e.lease, e.claim = m.now().Add(of.absence), absentee
	default:
		e.lease, e.claim = never, someone
	}
}

func (m *reference) releaseDelivery(id, claim uuid.UUID) {
	if r := m.open(id, claim); r != nil {
		r.due, r.claim = m.now(), uuid.Nil
	}
}

func (m *reference) noteLook(id, claim uuid.UUID, found string) bool {
	r := m.open(id, claim)
	if r == nil {
		return false
	}
	r.looks++
	r.provider = cmp.Or(found, r.provider)
	return true
}

// reopen is the trigger outbox_events_reopen: the event moves to a new place.
func (m *reference) reopen(e *refEvent, place int64) {
	for _, r := range m.rowsAt(e.seq) {
		if r.seq = place; r.state.Terminal() && r.state != dispatch.Delivered && r.due.IsZero() {
			r.claim = replaced
		}
	}
	e.processed, e.lease, e.seq = false, never, place
}

// String is all there is, a row a line.
func (m *reference) String() string {
	var lines []string
	for _, e := range m.events {
		lines = append(lines, fmt.Sprintf("event %d processed %t lease %s claim %s", e.seq, e.processed, m.class(e.lease), m.name(e.claim)))
	}
	for _, r := range m.rows {
		lines = append(lines, fmt.Sprintf("row %s of %d %s %s/%d generation %d required %t provider %q due %s line %q turn %t after %v instead of %q receipt %q held from %q claim %s finished %t looks %d",
			r.id.String()[:18], r.seq, r.step, r.state, r.attempts, r.generation, r.required, r.provider, m.class(r.due), r.line, !r.turn.IsZero(), r.after, r.insteadOf, r.receipt, r.heldFrom, m.name(r.claim), r.state.Terminal(), r.looks))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
