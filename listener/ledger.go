package listener

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

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
	kept       *spooledRow // what an earlier listener kept of it; nil for one of ours
}

const stripped = "left out: the database refuses it"

// recipient is who it is for, as the ledger may show it.
func (r *row) recipient() string {
	if r.kept != nil {
		return clean(r.kept.Recipient)
	}
	return clean(dispatch.Mask(r.job.Channel, r.job.Recipient))
}

func (r *row) strip() {
	r.providerID, r.content = nil, nil
	if r.lastError != nil {
		why := stripped
		r.lastError = &why
	}
}

// ledgerRow says how the ledger is to have j: as its outcome, or as being
// worked on under the lease where it has none yet.
func (j *job) ledgerRow(ttl time.Duration) row {
	r := row{job: j, outcome: j.outcome, attempts: j.attempts, lastError: nonEmpty(j.lastError)}
	if j.outcome == nil {
		r.state = dispatch.Ready
		switch {
		case j.begun || j.announced:
			r.state = dispatch.Sending
			r.attempts++
		case j.state == dispatch.Sending, j.state == dispatch.Uncertain, j.state == dispatch.Held:
			r.state = j.state // since before us; not settled yet
		}
		r.providerID = nonEmpty(j.found)
		r.dueIn = seconds(ttl)
		r.content = text(j.Content)
		return r
	}
	o := j.outcome
	r.state, r.attempts = o.State, o.Attempts
	r.providerID = nonEmpty(clean(o.Receipt.ProviderID))
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
		return clean(o.Reason + ": " + dispatch.MaskText(o.Err.Error()))
	case o.Err != nil:
		return clean(dispatch.MaskText(o.Err.Error()))
	}
	return clean(o.Reason)
}

// clean makes s a text that Postgres takes.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// nonEmpty returns nil, which is null, for "".
func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
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

// uuids is an array of uuids in the type that pgx encodes directly. A
// []uuid.UUID takes the long way, through text, which costs more than all the
// rest of a record.
type uuids pgtype.FlatArray[pgtype.UUID]

func (u *uuids) add(id uuid.UUID) { *u = append(*u, pgtype.UUID{Bytes: id, Valid: true}) }

// Dimensions implements pgtype.ArrayGetter, as do the other two.
func (u uuids) Dimensions() []pgtype.ArrayDimension {
	return pgtype.FlatArray[pgtype.UUID](u).Dimensions()
}

// Index returns one element, by its place, so that none is copied to the heap.
func (u uuids) Index(i int) any { return &u[i] }

// IndexType returns an element of the type that all have.
func (u uuids) IndexType() any { return new(pgtype.UUID) }

// columns are rows of the ledger as arrays, in the order of record_events.sql.
type columns struct {
	seqs                    []int64
	ids                     uuids // null where an event has no delivery
	events                  uuids
	types                   []string
	created                 []time.Time
	routes, steps, channels []string
	recipients, states      []string
	attempts, generations   []int
	providers, lastErrors   []*string
	due                     []*float64
	claims                  uuids
	contents                []*string
	leased                  []bool // whether it stays under the claim: what has an outcome is nobody's
	attemptRows             attemptColumns
	held                    uuids // those that are to be recorded as held; of what the ledger cannot know yet, none

	fresh bool // for record_fresh.sql: without what the event's row has
}

// freshColumns has room for n rows.
func freshColumns(n int) columns {
	return columns{
		fresh: true,
		seqs:  make([]int64, 0, n), claims: make(uuids, 0, n), ids: make(uuids, 0, n),
		routes: make([]string, 0, n), steps: make([]string, 0, n), channels: make([]string, 0, n),
		recipients: make([]string, 0, n), states: make([]string, 0, n), attempts: make([]int, 0, n),
		providers: make([]*string, 0, n), lastErrors: make([]*string, 0, n), due: make([]*float64, 0, n),
		contents: make([]*string, 0, n),
	}
}

func (c *columns) add(r row) {
	j := r.job
	c.seqs = append(c.seqs, j.seq)
	c.ids.add(j.ID)
	if !c.fresh {
		c.events.add(j.EventID)
		c.types = append(c.types, j.Type)
		c.created = append(c.created, j.Date)
		c.generations = append(c.generations, j.generation)
		c.leased = append(c.leased, r.outcome == nil)
		if r.state == dispatch.Held {
			c.held.add(j.ID)
		}
	}
	c.routes = append(c.routes, clean(j.Route))
	c.steps = append(c.steps, clean(j.Step))
	c.channels = append(c.channels, clean(string(j.Channel)))
	c.recipients = append(c.recipients, r.recipient())
	c.states = append(c.states, string(r.state))
	c.attempts = append(c.attempts, r.attempts)
	c.providers = append(c.providers, r.providerID)
	c.lastErrors = append(c.lastErrors, r.lastError)
	c.due = append(c.due, r.dueIn)
	c.claims.add(j.lease.claim)
	c.contents = append(c.contents, r.content)
	c.attemptRows.add(r)
}

// addNone adds the row of an event that has no delivery to write.
func (c *columns) addNone(e *event) {
	c.add(row{job: &job{Delivery: dispatch.Delivery{EventID: e.ID, Type: e.Type, Date: e.CreatedAt}, seq: e.seq, lease: e.lease}})
	c.ids[len(c.ids)-1] = pgtype.UUID{}
}

func (c *columns) args() []any {
	return []any{c.seqs, c.ids, c.events, c.types, c.created, c.routes, c.steps, c.channels, c.recipients,
		c.states, c.attempts, c.generations, c.providers, c.lastErrors, c.due, c.claims, c.contents, c.leased}
}

// freshArgs are the arguments of record_fresh.sql, which takes one element for a column
// that is the same in all rows, and null for one that is null in all: most batches are
// of one kind, and an element costs as much as a row does in the table.
func (c *columns) freshArgs(parked []bool) []any {
	return []any{c.seqs, c.claims, c.ids, same(c.routes), same(c.steps), same(c.channels), same(c.recipients),
		same(c.states), same(c.attempts), orNull(c.providers), orNull(c.lastErrors), orNull(c.due), orNull(c.contents), parked}
}

// alikeArgs are the arguments of record_alike.sql; nil where the rows differ in more than
// their ids, have more to say than that they were delivered, or lie too far apart.
func (c *columns) alikeArgs(parked []bool) []any {
	n := len(c.seqs)
	switch {
	case n == 0, parked != nil, c.seqs[n-1]-c.seqs[0] >= int64(4*n),
		c.states[0] != string(dispatch.Delivered), len(same(c.states)) > 1, len(same(c.attempts)) > 1,
		len(same(c.routes)) > 1, len(same(c.steps)) > 1, len(same(c.channels)) > 1, len(same(c.recipients)) > 1,
		orNull(c.providers) != nil, orNull(c.lastErrors) != nil, orNull(c.due) != nil, orNull(c.contents) != nil:
		return nil
	}
	return []any{c.seqs, c.claims, c.ids, c.routes[0], c.steps[0], c.channels[0], c.recipients[0], c.attempts[0]}
}

// same returns the one element of a column that has no other, and else the column.
func same[T comparable](column []T) []T {
	for _, v := range column {
		if v != column[0] {
			return column
		}
	}
	return column[:min(len(column), 1)]
}

// orNull returns nil for a column that has nothing in it.
func orNull[T any](column []*T) []*T {
	for _, v := range column {
		if v != nil {
			return column
		}
	}
	return nil
}

// attemptColumns are rows of outbox.attempts: attempts that were not simply
// taken.
type attemptColumns struct {
	ids      uuids
	attempts []int
	took     []float64
	states   []string
	kinds    []string
	statuses []*int
	errors   []string
}

func (a *attemptColumns) add(r row) {
	if r.kept != nil {
		a.addKept(r.job.ID, r.kept.Tried)
		return
	}
	if r.outcome == nil || r.outcome.Err == nil {
		return
	}
	j, o := r.job, r.outcome
	a.ids.add(j.ID)
	a.attempts = append(a.attempts, j.Attempt)
	a.took = append(a.took, j.took.Seconds())
	a.states = append(a.states, string(o.State))
	a.kinds = append(a.kinds, string(o.Err.Kind))
	var status *int
	if o.Err.Status != 0 {
		status = &o.Err.Status
	}
	a.statuses = append(a.statuses, status)
	a.errors = append(a.errors, clean(dispatch.MaskText(o.Err.Error())))
}

// addKept adds what an earlier listener kept of an attempt; nil where there was
// nothing to keep.
func (a *attemptColumns) addKept(id uuid.UUID, t *spooledTry) {
	if t == nil {
		return
	}
	a.ids.add(id)
	a.attempts = append(a.attempts, t.Attempt)
	a.took = append(a.took, t.Took)
	a.states = append(a.states, string(t.State))
	a.kinds = append(a.kinds, clean(string(t.Kind)))
	a.statuses = append(a.statuses, t.Status)
	a.errors = append(a.errors, clean(t.Error))
}

func (a *attemptColumns) queue(b *pgx.Batch) {
	if len(a.ids) == 0 {
		return
	}
	args := []any{a.ids, a.attempts, a.took, a.states, a.kinds, a.statuses, a.errors}
	b.Queue(sqlRecordAttempts, args...)
	if slices.Contains(a.kinds, string(dispatch.Unknown)) {
		b.Queue(sqlUnknownAttempts, args...)
	}
}
