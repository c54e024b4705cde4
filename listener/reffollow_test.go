package listener

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// releaseFollowers is release_followers.sql. It returns what it made due.
func (m *reference) releaseFollowers(ids []uuid.UUID) (released []*refRow) {
	for _, id := range ids {
		over := m.rows[id]
		if over == nil || !over.state.Terminal() && over.receipt == "" {
			continue
		}
		settled := over.state.Terminal() && over.state != dispatch.Delivered || over.receipt.Final()
		for _, r := range m.rowsAt(over.seq) {
			if settled && r.of.Route == over.of.Route && r.insteadOf == over.step && r.state == dispatch.Scheduled && m.ahead(r.due) &&
				nobodys(r.claim) && !slices.Contains(released, r) {
				released = append(released, r)
			}
			if !over.state.Terminal() || r.of.Route != over.of.Route || !slices.Contains(r.after, over.step) || slices.Contains(released, r) {
				continue
			}
			if r.state == dispatch.Ready && r.due.IsZero() && (r.line == "" || !r.turn.IsZero()) && !m.awaits(r) {
				released = append(released, r)
			}
		}
	}
	for _, r := range released {
		r.due = m.now()
	}
	return released
}

// awaits reports whether a step that r waits for is open.
func (m *reference) awaits(r *refRow) bool {
	return slices.ContainsFunc(m.rowsAt(r.seq), func(o *refRow) bool {
		return o.of.Route == r.of.Route && slices.Contains(r.after, o.step) && !o.state.Terminal()
	})
}

// freezeDelivery is freeze_delivery.sql.
func (m *reference) freezeDelivery(j *job) bool {
	r := m.open(j.ID, j.lease.claim)
	if r == nil {
		return false
	}
	r.of.Content, r.of.Recipient, r.after = j.Content, j.Recipient, nil
	r.scope = false
	return true
}

// stepResults is step_results.sql, without answers.
func (m *reference) stepResults(j *job) map[string]dispatch.StepResult {
	out := map[string]dispatch.StepResult{}
	for _, step := range j.terms().After {
		var newest *refRow
		for _, r := range m.rowsAt(j.seq) {
			if r.of.Route == j.Route && r.step == step && (newest == nil || stands(r, newest) < 0) {
				newest = r
			}
		}
		if newest != nil {
			out[step] = dispatch.StepResult{State: newest.state}
		}
	}
	return out
}

// stands is below 0 where a says what came of its step, and not b, which is of the same
// step: what was replaced counts least, and what was delivered less than what was not.
func stands(a, b *refRow) int {
	return cmp.Or(later(a.claim == replaced, b.claim == replaced), later(a.state == dispatch.Delivered, b.state == dispatch.Delivered), newerPlan(a, b))
}

// later is above 0 where a is so, and not b.
func later(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// newerPlan is below 0 where a is of a newer plan than b, or of a newer generation.
func newerPlan(a, b *refRow) int {
	return cmp.Or(bytes.Compare(b.id[:6], a.id[:6]), cmp.Compare(b.generation, a.generation), bytes.Compare(a.id[:], b.id[:]))
}
