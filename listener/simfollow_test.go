package listener

import (
	"context"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// tellDue is that of store.
func (s *simStore) tellDue(err error, released int) {
	if err == nil && released > 0 && s.due != nil {
		s.due()
	}
}

func (s *simStore) freezeDelivery(ctx context.Context, j *job) (kept bool, err error) {
	err = s.do(ctx, durable, func(m *reference) error {
		kept = m.freezeDelivery(j)
		return nil
	})
	return kept, err
}

func (s *simStore) stepResults(ctx context.Context, j *job) (steps map[string]dispatch.StepResult, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		steps = m.stepResults(j)
		return nil
	})
	return steps, err
}

// awaited are the deliveries that r waits for, the newest of each step, by what its route
// says.
func (m *reference) awaited(typ string, r *refRow) map[string]dispatch.StepResult {
	after := simAfter[typ][r.step]
	if after == nil {
		return nil
	}
	return m.stepResults(&job{seq: r.seq, Delivery: dispatch.Delivery{Message: dispatch.Message{Route: r.of.Route, Terms: &dispatch.Terms{After: after}}}})
}

// mayFollow holds the beginning of an attempt at r against the steps that it waits
// for: all of them were delivered. The caller holds db.mu and w.mu.
func (s simSender) mayFollow(d *dispatch.Delivery, r *refRow) {
	if len(d.Content) == 0 {
		s.p.w.fault(d.EventID, "%s is sent by listener %d, and has no content", d.Step, s.p.n)
	}
	if s.p.w.db.ref.replayed(r.seq) {
		return
	}
	for step, o := range s.p.w.db.ref.awaited(d.Type, r) {
		if o.State != dispatch.Delivered {
			s.p.w.fault(d.EventID, "%s is sent by listener %d, and %s before it is %s", d.Step, s.p.n, step, o.State)
		}
	}
}

// judgeFollower holds what became of r against the steps that it waited for: it is
// skipped where one of them was not delivered, and only there.
func (w *simWorld) judgeFollower(typ string, r *refRow) {
	steps := w.db.ref.awaited(typ, r)
	if steps == nil || r.state == dispatch.Canceled || w.db.ref.replayed(r.seq) || strings.HasPrefix(r.lastError, "poison") {
		return
	}
	skip := false
	for _, o := range steps {
		skip = skip || o.State != dispatch.Delivered
	}
	if (r.state == dispatch.Skipped) != skip {
		w.fault(r.event, "%s is %s (%s), and what it waited for is %v", r.step, r.state, r.lastError, steps)
	}
}
