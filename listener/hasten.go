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
	from   int64 // what is up to there has had its turn
	most   int   // are brought forward in the next step
	ok     int   // that were put off and are planned, since the last one
	failed int   // that were put off and could not be planned again
	spoilt bool  // one could not, in all of the pass
}

// A step brings forward hastenFew at first, of all types together, since nobody knows whether they can be planned
// now: routes of one type differ by payload. Where half as many were planned since, and fewer failed, it is hastenFaster times as
// many, up to hastenMost.
const (
	hastenEvery  = time.Second
	hastenFew    = 20
	hastenFaster = 4
	hastenMost   = 500
)

// wellPlanned notes that e was planned: what is put off of its type may be, too.
func (l *Listener) wellPlanned(e *event) {
	if e.poison != "" || !e.putOff && !l.absences.of(time.Now(), e.Type) {
		return
	}
	floor, _, _, _ := l.marks.get()
	h := &l.hasten
	h.mu.Lock()
	t := h.types[e.Type]
	if t == nil && len(h.types) < mostTypes {
		t = &hastening{from: floor}
		h.types[e.Type] = t
	}
	if t != nil && e.putOff {
		t.ok++
	}
	h.mu.Unlock()
	signal(h.wake)
}

// notPlanned notes that e was not.
func (h *hasten) notPlanned(e *event) {
	if !e.putOff {
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
		for typ, t := range l.hasten.steps() {
			l.bringForward(ctx, typ, t)
		}
		if l.hasten.some() {
			signal(l.hasten.wake)
		}
		wait(ctx, hastenEvery)
	}
}

// bringForward makes the next step of a type.
func (l *Listener) bringForward(ctx context.Context, typ string, t hastening) {
	_, _, end, _ := l.marks.get()
	last, err := l.store.hastenEvents(ctx, typ, t.from, t.from+walkStep, t.most)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.sparse.warn("what was put off comes back in its time", err, "type", typ)
		l.hasten.end(typ)
	case last > 0:
		l.hasten.advance(typ, last)
	case t.from+walkStep < end:
		l.hasten.advance(typ, t.from+walkStep)
	default:
		l.hasten.end(typ)
		if !t.spoilt {
			l.absences.over(typ)
		}
	}
}

// steps says what the next steps are.
func (h *hasten) steps() map[string]hastening {
	h.mu.Lock()
	defer h.mu.Unlock()
	few := max(hastenFew/max(len(h.types), 1), 1)
	out := make(map[string]hastening, len(h.types))
	for typ, t := range h.types {
		t.most, t.spoilt = max(t.most, few), t.spoilt || t.failed > 0
		switch {
		case t.failed > 0 && t.failed >= t.ok:
			t.most = few
		case 2*t.ok >= t.most:
			t.most = min(hastenFaster*t.most, hastenMost)
		}
		t.ok, t.failed = 0, 0
		out[typ] = *t
	}
	return out
}

func (h *hasten) some() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.types) > 0
}

func (h *hasten) end(typ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.types, typ)
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
