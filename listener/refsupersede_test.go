package listener

import (
	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// try is an attempt.
type try struct {
	id uuid.UUID
	n  int
}

// tried is record_attempts.sql and unknown_attempts.sql.
func (m *reference) tried(rows ...row) {
	for _, r := range rows {
		if r.outcome == nil || r.outcome.Err == nil {
			continue
		}
		t := try{r.job.ID, r.job.Attempt}
		if _, there := m.tries[t]; !there || r.outcome.Err.Kind == dispatch.Unknown {
			m.tries[t] = r.outcome.Err.Kind
		}
	}
}

// unclear reports whether r may have arrived: not each of its attempts is on record as
// not taken.
func (m *reference) unclear(r *refRow) bool {
	n := 0
	for t, kind := range m.tries {
		if t.id == r.id && kind != dispatch.Unknown {
			n++
		}
	}
	return n != r.attempts
}

// freezeAll is freeze_events.sql for entries, with what follows it where they supersede
// others.
func (m *reference) freezeAll(entries []entry) (kept map[int64]bool, canceled map[uuid.UUID]string, released int) {
	kept, canceled = map[int64]bool{}, map[uuid.UUID]string{}
	var keys []key
	for _, en := range entries {
		if m.freeze(en) {
			kept[en.event.seq] = true
		}
		keys = append(keys, en.keys()...)
	}
	var gone []uuid.UUID
	for _, r := range m.supersede(keys) {
		canceled[r.id] = r.line
		gone = append(gone, r.id)
	}
	released = len(m.releaseFollowers(gone))
	for id := range canceled {
		m.settle(m.rows[id].seq)
	}
	return kept, canceled, released
}

// newest is the highest number of an event with a delivery of k.
func (m *reference) newest(k key) (seq int64) {
	for _, r := range m.rows {
		if r.supersedes == k.key && r.step == k.step {
			seq = max(seq, r.seq)
		}
	}
	return seq
}

// supersede is supersede.sql.
func (m *reference) supersede(keys []key) (canceled []*refRow) {
	for _, k := range keys {
		newest := m.newest(k)
		for _, r := range m.rows {
			if r.supersedes != k.key || r.step != k.step || r.seq >= newest || !m.supersedable(r) {
				continue
			}
			m.become(r, dispatch.Canceled)
			r.due, r.claim, r.lastError = never, uuid.Nil, "superseded by a newer event"
			r.of.Content, r.scope = nil, false
			canceled = append(canceled, r)
		}
	}
	return canceled
}

// supersedable reports whether r has not left, and cannot have.
func (m *reference) supersedable(r *refRow) bool {
	switch r.state {
	case dispatch.Scheduled, dispatch.Ready, dispatch.Retry:
		return true
	case dispatch.Held:
		return !m.unclear(r)
	}
	return false
}

// cancelSuperseded is cancel_superseded.sql for one delivery.
func (m *reference) cancelSuperseded(id uuid.UUID) {
	r := m.rows[id]
	if r == nil || r.supersedes == "" || r.state != dispatch.Ready && r.state != dispatch.Retry || m.newest(key{r.supersedes, r.step}) <= r.seq {
		return
	}
	m.become(r, dispatch.Canceled)
	r.due, r.lastError, r.of.Content = never, "superseded by a newer event", nil
	r.scope = false
}
