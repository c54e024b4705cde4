package listener

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// meddle has a person do something to a few deliveries, whatever they are.
func (w *simWorld) meddle() {
	w.people(func(rows []*refRow) {
		for range 1 + w.r.IntN(4) {
			if len(rows) > 0 {
				w.person(rows[w.r.IntN(len(rows))], w.r.IntN(4))
			}
		}
	})
}

// decide has a person decide about each delivery that is held.
func (w *simWorld) decide() {
	w.people(func(rows []*refRow) {
		for _, r := range rows {
			if r.state == dispatch.Held {
				w.person(r, 1+w.r.IntN(2))
			}
		}
	})
}

// people runs f as one transaction, where there is a server, on all deliveries in order of
// their ids.
func (w *simWorld) people(f func(rows []*refRow)) {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.db.away) {
		return
	}
	f(slices.SortedFunc(maps.Values(w.db.ref.rows), func(a, b *refRow) int { return bytes.Compare(a.id[:], b.id[:]) }))
	w.db.flushed = nil
}

// person does one thing to r: hold, release, cancel, replay. The caller holds db.mu
// and w.mu.
func (w *simWorld) person(r *refRow, what int) {
	m, was := w.db.ref, r.state
	done := false
	switch what {
	case 0:
		done = m.hold(r)
	case 1:
		even := w.r.IntN(2) == 0
		if done = m.letOut(r, even); done {
			w.released[r.id], w.forced[r.id] = true, even || w.forced[r.id]
		}
	case 2:
		done = m.cancel(r)
	case 3:
		done = m.replay(r, w.r.IntN(4) == 0)
	}
	if done {
		w.meddled++
		w.note(r.event, "a person: %s, which is %s, %s", r.step, was, []string{"held", "released", "canceled", "replayed"}[what])
	}
}

// replayed reports whether a person had anything of an event sent again.
func (m *reference) replayed(seq int64) bool {
	return slices.ContainsFunc(m.rowsAt(seq), func(r *refRow) bool { return r.generation > 0 })
}
