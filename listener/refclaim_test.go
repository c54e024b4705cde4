package listener

import "github.com/google/uuid"

// claimable are the seqs that claim_events.sql takes, in order.
func (m *reference) claimable(limit int) []int64 {
	var out []int64
	for _, e := range m.ordered() {
		if !e.processed && (e.lease.IsZero() || m.over(e.lease)) && len(out) < limit {
			out = append(out, e.seq)
		}
	}
	return out
}

// byNumbers reports whether a claim of so many numbers from lower + 1 on ends with them, where it may go by numbers:
// claim_range.sql would bring most of them, those that nobody ever claimed.
func (m *reference) byNumbers(lower int64, numbers int) bool {
	fresh := 0
	for _, e := range m.ordered() {
		if e.seq > lower && e.seq <= lower+int64(numbers) && !e.hidden && !e.processed && e.lease.IsZero() && e.claim == uuid.Nil {
			fresh++
		}
	}
	return mostOfThem(fresh, numbers)
}

func (m *reference) claimEvent(seq int64, claim uuid.UUID) (again, ranOut, putOff bool) {
	e := m.bySeq(seq)
	again, putOff = e.claim != uuid.Nil, !e.lease.IsZero() && e.claim == absentee
	ranOut = !e.lease.IsZero() && !putOff
	e.lease, e.claim = m.soon(), claim
	return again, ranOut, putOff
}

// hasten is hasten_events.sql.
func (m *reference) hasten(typ string, lower, upper int64, most int) (last int64) {
	n := 0
	for _, e := range m.ordered() {
		if e.seq > lower && e.seq <= upper && !e.processed && e.claim == absentee && m.ahead(e.lease) && e.typ == typ && n < most {
			e.lease, last = m.now(), e.seq
			n++
		}
	}
	return last
}

// claimDue is claim_due.sql, without a limit.
func (m *reference) claimDue(claim uuid.UUID) (ids []uuid.UUID) {
	for id, r := range m.rows {
		if m.over(r.due) {
			r.due, r.claim = m.soon(), claim
			ids = append(ids, id)
		}
	}
	return ids
}
