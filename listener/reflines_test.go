package listener

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// terms are those that the ledger has of r; nil where it has none.
func (r *refRow) terms() *dispatch.Terms {
	t := dispatch.Terms{Ordering: r.ordering, After: r.after, Supersedes: r.supersedes, InsteadOf: r.insteadOf}
	if r.of.Terms != nil {
		t.Retry = r.of.Terms.Retry
	}
	if t.Retry == (dispatch.Retries{}) && t.Ordering == "" && t.After == nil && t.Supersedes == "" && t.InsteadOf == "" {
		return nil
	}
	if t.After != nil {
		t.Scope = r.of.Terms.Scope
	}
	return &t
}

// like reports whether Postgres says so of s and one of patterns, which have no wildcard
// but % at the end.
func like(s string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		p, many := strings.CutSuffix(p, "%")
		p = strings.NewReplacer(`\\`, `\`, `\%`, `%`, `\_`, `_`).Replace(p)
		return s == p || many && strings.HasPrefix(s, p)
	})
}

// heads are the rows that are first in their lines: whoever has the turn, or is next.
func (m *reference) heads() map[string]*refRow {
	heads := map[string]*refRow{}
	for _, r := range m.rows {
		if r.line == "" || r.state.Terminal() {
			continue
		}
		if h := heads[r.line]; h == nil || before(r, h) {
			heads[r.line] = r
		}
	}
	return heads
}

// before reports whether a comes before b in their line.
func before(a, b *refRow) bool {
	if a.turn.IsZero() != b.turn.IsZero() {
		return b.turn.IsZero()
	}
	return cmp.Or(a.turn.Compare(b.turn), cmp.Compare(a.seq, b.seq)) < 0
}

// passTurns is pass_turns.sql for lines. types are patterns of LIKE, floor is that of
// outbox.state, and locked says which rows somebody has locked; nil: none. It returns the lines
// that are to be asked again, in order, and how many deliveries are due.
func (m *reference) passTurns(lines, types []string, floor int64, locked func(*refRow) bool) (again []string, due int) {
	heads := m.heads()
	unplanned := int64(top)
	for _, e := range m.events {
		if !e.hidden && e.seq > floor && !e.processed && !e.lease.Equal(forever) && like(e.typ, types) {
			unplanned = min(unplanned, e.seq)
		}
	}
	now := m.now()
	var turned, over []*refRow
	for _, line := range slices.Compact(slices.Sorted(slices.Values(lines))) {
		h := heads[line]
		var next []*refRow // with the turn, where all of them are free
		free := h != nil && h.turn.IsZero() && h.seq < unplanned
		for _, r := range m.rows {
			if r.line != line {
				continue
			}
			switch {
			case r.state.Terminal():
				if !r.turn.IsZero() || h == nil || r.seq <= h.seq {
					over = append(over, r)
				}
			case r.seq == h.seq && r.turn.IsZero():
				next = append(next, r)
				free = free && (r.claim == uuid.Nil || m.events[r.event] == nil) && (locked == nil || !locked(r))
			}
		}
		switch {
		case free:
			turned = append(turned, next...)
		case h != nil && h.turn.IsZero():
			again = append(again, line)
		}
	}
	var begin []*refRow // all of them are seen as they were before
	for _, r := range turned {
		if r.state != dispatch.Held && !m.waits(r) {
			begin = append(begin, r)
		}
		if r.state != dispatch.Held && !m.waits(r) || !r.due.IsZero() {
			due++
		}
	}
	for _, r := range turned {
		r.turn, r.claim = now, uuid.Nil
	}
	for _, r := range begin {
		r.due = now
	}
	for _, r := range over {
		r.line = ""
	}
	return again, due
}

// waits reports whether r waits for a step that gets the turn with it.
func (m *reference) waits(r *refRow) bool {
	for _, o := range m.rowsAt(r.seq) {
		if o.line == r.line && o.turn.IsZero() && o.of.Route == r.of.Route && slices.Contains(r.after, o.step) && !o.state.Terminal() {
			return true
		}
	}
	return false
}

// stalledLines is stalled_lines.sql.
func (m *reference) stalledLines(after string, most int) (stalled []string, last string) {
	taken := map[string]bool{}
	for _, r := range m.rows {
		if r.line > after {
			taken[r.line] = taken[r.line] || !r.turn.IsZero() && !r.state.Terminal()
		}
	}
	lines := slices.Sorted(maps.Keys(taken))
	lines = lines[:min(len(lines), most)]
	for _, line := range lines {
		if !taken[line] {
			stalled = append(stalled, line)
		}
	}
	if len(lines) == most {
		last = lines[most-1]
	}
	return stalled, last
}

// inLine are the rows of event e that stand in line, or stood in it.
func (m *reference) inLine(e *refEvent, line string) (rows []*refRow) {
	for _, r := range m.rowsAt(e.seq) {
		if r.ordering == line {
			rows = append(rows, r)
		}
	}
	return rows
}

// planned reports whether it is known of e what becomes of it.
func (e *refEvent) planned() bool { return e.processed || e.lease.Equal(forever) }
