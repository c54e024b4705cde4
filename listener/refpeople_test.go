package listener

import (
	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// What a person does to a delivery: judge_deliveries.sql, the rules of listener/operate, and
// its statements. Each of them reports whether it may be done, and was.

// refFacts are what judge_deliveries.sql says of a delivery, as far as these rules go.
type refFacts struct{ unclear, leased, idle, inHand, gone, waits, newer, superseded bool }

func (m *reference) judge(r *refRow) (f refFacts) {
	e := m.bySeq(r.seq)
	f.unclear, f.gone = m.unclear(r), e == nil
	f.leased = !nobodys(r.claim) && m.ahead(r.due) && !(r.state == dispatch.Scheduled && e != nil && r.claim == e.claim)
	f.idle = !r.due.IsZero() && nobodys(r.claim)
	f.inHand = e != nil && !e.planned()
	f.waits = r.after != nil && r.due.IsZero()
	for _, o := range m.rowsAt(r.seq) {
		f.newer = f.newer || o.of.Route == r.of.Route && o.step == r.step && o.of.Channel == r.of.Channel && o.generation > r.generation
	}
	f.superseded = r.supersedes != "" && m.newest(key{r.supersedes, r.step}) > r.seq
	return f
}

// touchable reports whether no listener has r, or its event.
func (m *reference) touchable(r *refRow) bool {
	f := m.judge(r)
	return r.state != dispatch.Sending && !f.leased && !f.inHand
}

// hold is hold_deliveries.sql.
func (m *reference) hold(r *refRow) bool {
	if !m.touchable(r) || r.state.Terminal() || r.state == dispatch.Held || m.judge(r).waits {
		return false
	}
	if r.state != dispatch.Scheduled {
		r.due = never
	}
	r.heldFrom, r.state, r.claim, r.lastError = r.state, dispatch.Held, uuid.Nil, "held by ann"
	return true
}

// letOut is release_held.sql. even has what may have arrived sent in any case.
func (m *reference) letOut(r *refRow, even bool) bool {
	if !m.touchable(r) || r.state != dispatch.Held || r.heldFrom == "" && m.unclear(r) && !even {
		return false
	}
	switch {
	case m.ahead(r.due):
		r.state = dispatch.Scheduled
	case r.heldFrom == dispatch.Uncertain && !even:
		r.state = dispatch.Uncertain
	default:
		r.state = dispatch.Ready
	}
	switch {
	case r.line != "" && r.turn.IsZero():
		r.due = never
	case r.insteadOf != "" || !m.ahead(r.due):
		r.due = m.now()
	}
	r.claim, r.heldFrom = uuid.Nil, ""
	m.settle(r.seq)
	return true
}

// byPerson is why something is canceled that a person canceled.
const byPerson = "canceled by ann"

// cancel is cancel_deliveries.sql, and what follows it.
func (m *reference) cancel(r *refRow) bool {
	if !m.touchable(r) || r.state.Terminal() {
		return false
	}
	m.become(r, dispatch.Canceled)
	r.due, r.claim, r.lastError = never, uuid.Nil, byPerson
	m.releaseFollowers([]uuid.UUID{r.id})
	m.settle(r.seq)
	return true
}

// replay is replay_deliveries.sql, for one that is due at once. even has what was delivered
// sent again, too.
func (m *reference) replay(r *refRow, even bool) bool {
	f := m.judge(r)
	switch {
	case !m.touchable(r), !r.state.Terminal(), f.newer, f.superseded, r.of.Channel == "":
		return false
	case r.state == dispatch.Delivered && !even, r.state != dispatch.Delivered && f.unclear, f.gone && r.of.Content == nil && !r.scope:
		return false
	}
	id := ReplayID(r.id, r.seq, r.generation+1)
	if m.rows[id] != nil {
		return false
	}
	made := &refRow{
		id: id, event: r.event, seq: r.seq, step: r.step, state: dispatch.Ready, generation: r.generation + 1,
		required: r.required, scope: r.scope, supersedes: r.supersedes, ordering: r.ordering, line: r.ordering, of: r.of, made: m.now(),
	}
	if made.of.ID = id; r.scope {
		made.after = r.after
	}
	if made.line == "" {
		made.due = m.now()
	}
	m.rows[id], r.claim = made, replaced
	return true
}
