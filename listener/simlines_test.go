package listener

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func (s *simStore) passTurns(ctx context.Context, lines, types []string) (again []string, err error) {
	made := 0
	err = s.do(ctx, forgetable, func(m *reference) error {
		again, made = m.passTurns(lines, types, s.db.floor, func(*refRow) bool { return s.db.chance(0.02) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.tellDue(err, made)
	return again, nil
}

func (s *simStore) stalledLines(ctx context.Context, after string, most int) (stalled []string, last string, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		stalled, last = m.stalledLines(after, most)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return stalled, last, nil
}

// simFlight is an attempt under way at a delivery that stands in a line.
type simFlight struct {
	line  string
	event uuid.UUID
	claim uuid.UUID
	p     *simProc
}

// simArrival is a message of a line that arrived.
type simArrival struct {
	event uuid.UUID
	seq   int64
	turn  time.Time // that it was sent in
}

// mayTurn holds the beginning of an attempt at r against its line: all that is before
// it, and was to be seen when it got the turn, is over, and nobody who still has it sends
// what is of another event. The caller holds db.mu and w.mu.
func (s simSender) mayTurn(d *dispatch.Delivery, r *refRow) {
	w, m := s.p.w, s.p.w.db.ref
	if r.turn.IsZero() {
		w.fault(d.EventID, "%s is sent by listener %d out of turn", d.Step, s.p.n)
	}
	for _, e := range m.ordered() {
		if e.hidden || e.seq >= r.seq || simLine(e.typ, e.id) != r.ordering || !e.seen.Before(r.turn) {
			continue
		}
		if !e.planned() {
			w.fault(d.EventID, "%s is sent by listener %d, and event %s before it is not planned", d.Step, s.p.n, e.id)
		}
		for _, o := range m.inLine(e, r.ordering) {
			if !o.state.Terminal() && o.made.Before(r.turn) { // else a person had it sent again since
				w.fault(d.EventID, "%s is sent by listener %d, and %s of event %s before it is %s", d.Step, s.p.n, o.step, e.id, o.state)
			}
		}
	}
	for id, f := range w.flying {
		if o := m.rows[id]; f.line == r.ordering && f.event != d.EventID && o.claim == f.claim && !o.state.Terminal() {
			w.fault(d.EventID, "%s is sent by listener %d, while listener %d sends %s of event %s", d.Step, s.p.n, f.p.n, o.step, f.event)
		}
	}
	w.flying[d.ID] = simFlight{r.ordering, d.EventID, r.claim, s.p}
}

// arrived notes that d arrived, and holds it against what arrived before in its line,
// whatever the tables say. The caller holds w.mu and db.mu.
func (s simSender) arrived(d *dispatch.Delivery, entered time.Time) {
	w, m := s.p.w, s.p.w.db.ref
	r, e := m.rows[d.ID], m.events[d.EventID]
	if r == nil || r.ordering == "" || r.generation > 0 || s.p.stoodSince(entered.Add(-w.db.lease)) || w.db.owners[r.claim] != s.p {
		return
	}
	for _, a := range w.arrivals[r.ordering] {
		if a.seq > r.seq && e.seen.Before(a.turn) {
			w.fault(d.EventID, "%s arrived after event %s, number %d, which stands behind it", d.Step, a.event, a.seq)
		}
	}
	w.arrivals[r.ordering] = append(w.arrivals[r.ordering], simArrival{d.EventID, r.seq, r.turn})
}
