package listener

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// nobodys reports whether claim says that no listener has what it is on.
func nobodys(claim uuid.UUID) bool { return claim == uuid.Nil || claim.Version() == 5 }

// fates are in the order of note_report.sql.
var fates = []dispatch.Fate{dispatch.FateQueued, dispatch.FateSent, dispatch.FateCanceled, dispatch.FateFailed, dispatch.FateUndelivered, dispatch.FateDelivered}

// noteReport is note_report.sql, and release_followers.sql after it.
func (m *reference) noteReport(rep dispatch.Report) (n noted) {
	r := m.rows[rep.Delivery]
	if r == nil {
		return noted{}
	}
	named := rep.ProviderID != "" && r.provider == "" && r.attempts > 0
	for _, o := range m.rows {
		if o != r && r.likeness != nil && o.likeness != nil && *o.likeness == *r.likeness && o.provider == rep.ProviderID {
			named = false
		}
	}
	n = noted{known: true}
	n.news = slices.Index(fates, rep.Fate) > slices.Index(fates, r.receipt) && r.attempts > 0 &&
		(r.provider == "" || r.provider == rep.ProviderID || r.attempts == 1 || rep.Fate == dispatch.FateDelivered)
	sent := r.state == dispatch.Sending || r.state == dispatch.Uncertain || r.state == dispatch.Ready || r.state == dispatch.Retry
	n.due = named && nobodys(r.claim) && (r.state == dispatch.Held && r.heldFrom == "" || sent && !r.due.IsZero())
	if named {
		r.provider = rep.ProviderID
	}
	if n.news {
		r.receipt, r.code = rep.Fate, rep.Code
	}
	if n.due {
		if r.due = m.now(); r.state == dispatch.Held {
			r.state = dispatch.Uncertain
		}
	}
	if rep.Fate.Final() && len(m.releaseFollowers([]uuid.UUID{r.id})) > 0 {
		n.due = true
	}
	return n
}

// stoodInFor is the delivery that j is sent instead of: the newest of its step. nil where
// there is none.
func (m *reference) stoodInFor(seq int64, route, step string) (newest *refRow) {
	for _, r := range m.rowsAt(seq) {
		if r.of.Route != route || r.step != step || r.of.Channel == "" {
			continue
		}
		if newest == nil || cmp.Or(later(r.claim == replaced, newest.claim == replaced), newerPlan(r, newest)) < 0 {
			newest = r
		}
	}
	return newest
}

// standing is instead_of.sql.
func (m *reference) standing(j *job) (st dispatch.Standing) {
	r := m.stoodInFor(j.seq, j.Route, j.terms().InsteadOf)
	if r == nil {
		return st
	}
	st = dispatch.Standing{State: r.state, Fate: r.receipt, Code: r.code, Unclear: m.unclear(r)}
	if !r.finished.IsZero() {
		st.Over = m.now().Sub(r.finished)
	}
	return st
}

// recall is recall_instead.sql. It returns how many are due.
func (m *reference) recall(entries []entry) (due int) {
	for _, en := range entries {
		j := en.job
		if j.judged == nil || j.outcome == nil || j.outcome.State != dispatch.Scheduled {
			continue
		}
		f := m.rows[j.ID]
		if f == nil || f.state != dispatch.Scheduled || f.insteadOf == "" {
			continue
		}
		if now := m.stoodInFor(f.seq, f.of.Route, f.insteadOf); now != nil && (now.state != j.judged.State || now.receipt != j.judged.Fate) {
			f.due = m.now()
			due++
		}
	}
	return due
}
