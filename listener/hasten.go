package listener

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// hasten brings events forward that are put off, once one of their type is planned again: in one pass over all
// of them, the lowest first, some every hastenEvery.
type hasten struct {
	mu    sync.Mutex
	types map[string]*hastening
	wake  chan struct{} // readable when a type was added
}

// hastening is how far that has come with one type.
type hastening struct {
	from   int64     // what is up to there has had its turn
	most   int       // are brought forward in the next step
	ok     int       // that were put off and are planned, since most was last thought of
	failed int       // that were put off and could not be planned again
	spoilt bool      // one could not, in all of the pass
	rests  time.Time // the pass is over, and one failed in it: until then there is none because others of the type are planned
}

// A step brings forward hastenFew at first, of all types together, since nobody knows whether they can be planned
// now: routes of one type differ by payload. Where more of these are planned than fail, once it is known of half as many, it is
// hastenFaster times as many, up to hastenMost.
const (
	hastenEvery  = time.Second
	hastenRest   = 20 * time.Second
	hastenFew    = 20
	hastenFaster = 4
	hastenMost   = 500
)

// wellPlanned notes that e was planned: what is put off of its type may be, too.
func (l *Listener) wellPlanned(e *event) {
	if e.poison != "" || !e.putOff && !l.absences.some.Load() {
		return
	}
	now := time.Now()
	if !e.putOff && !l.absences.of(now, e.Type) {
		return
	}
	floor, _, _, _ := l.marks.get()
	h := &l.hasten
	h.mu.Lock()
	t := h.types[e.Type]
	if t == nil && len(h.types) < mostTypes || t != nil && !t.rests.IsZero() && (e.putOff || now.After(t.rests)) {
		t = &hastening{from: floor}
		h.types[e.Type] = t
	}
	if t != nil && e.putOff {
		t.ok++
	}
	h.mu.Unlock()
	signal(h.wake)
}

// notPlanned notes that e was not, the first time since it was claimed.
func (h *hasten) notPlanned(e *event) {
	if !e.putOff || e.unplanned > 1 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.types[e.Type]; t != nil {
		t.failed++
	}
}

// keepHaste brings forward what is to be, until ctx ends.
func (l *Listener) keepHaste(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.hasten.wake:
		}
		begun := time.Now()
		for typ, t := range l.hasten.steps(begun) {
			l.bringForward(ctx, typ, t)
		}
		if l.hasten.goesOn() {
			signal(l.hasten.wake)
		}
		wait(ctx, max(hastenEvery, walkRest*time.Since(begun))) // it looks at numbers as a walk does
	}
}

// bringForward makes the next step of a type.
func (l *Listener) bringForward(ctx context.Context, typ string, t hastening) {
	floor, _, _, _ := l.marks.get()
	from := max(t.from, floor)
	last, err := l.store.hastenEvents(ctx, typ, from, from+walkStep, t.most)
	end, _ := l.marks.seen()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.sparse.warn("what was put off comes back in its time", err, "type", typ)
		l.hasten.end(typ, time.Now().Add(hastenRest))
	case last > 0:
		l.hasten.advance(typ, last)
	case from+walkStep < end:
		l.hasten.advance(typ, from+walkStep)
	case t.spoilt:
		l.hasten.end(typ, time.Now().Add(hastenRest))
	default:
		l.hasten.end(typ, time.Time{})
		l.absences.over(typ)
	}
}

// steps says what the next steps are, of hastenFew types at most.
func (h *hasten) steps(now time.Time) map[string]hastening {
	h.mu.Lock()
	defer h.mu.Unlock()
	going := 0
	for typ, t := range h.types {
		switch {
		case t.rests.IsZero():
			going++
		case now.After(t.rests):
			delete(h.types, typ)
		}
	}
	few := max(hastenFew/max(going, 1), 1)
	out := make(map[string]hastening, min(going, hastenFew))
	for typ, t := range h.types { // in no order: each has its turn
		if !t.rests.IsZero() {
			continue
		}
		if len(out) == hastenFew {
			break
		}
		t.think(few)
		out[typ] = *t
	}
	return out
}

// think decides how many the next step brings forward.
func (t *hastening) think(few int) {
	t.most, t.spoilt = max(t.most, few), t.spoilt || t.failed > 0
	if 2*(t.ok+t.failed) < t.most {
		return // what came of the last ones is not known yet
	}
	if t.ok > t.failed {
		t.most = min(hastenFaster*t.most, hastenMost)
	} else {
		t.most = few
	}
	t.ok, t.failed = 0, 0
}

// goesOn reports whether a pass is under way.
func (h *hasten) goesOn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.types {
		if t.rests.IsZero() {
			return true
		}
	}
	return false
}

// end ends a pass, and none begins until rests where that is not zero.
func (h *hasten) end(typ string, rests time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.types, typ); !rests.IsZero() {
		h.types[typ] = &hastening{rests: rests}
	}
}

func (h *hasten) advance(typ string, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.types[typ].from = to
}

// hastenEvents makes events of type typ that are put off due, lower < seq <= upper and at most most of them, and
// returns the highest; 0 where there is none. Events that somebody has locked come back in their time.
func (s *store) hastenEvents(ctx context.Context, typ string, lower, upper int64, most int) (last int64, err error) {
	err = s.txWith(ctx, forgetable, noJoins, func(b *pgx.Batch) {
		b.Queue(sqlHastenEvents, lower, upper, typ, most).QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	})
	return last, err
}
