package listener

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// hasten brings events forward that are put off, once events of their type are planned again: a step of
// walkStep numbers, for each type, every hastenEvery.
type hasten struct {
	mu    sync.Mutex
	types map[string]*hastening
	wake  chan struct{} // readable when a type was added
}

// hastening is how far that has come with one type.
type hastening struct {
	from int64 // what is up to there has come
	all  bool  // those that were put off are planned; otherwise only others of the type are, and a few are tried
}

// hastenMost is how many of one type are brought forward at once, and hastenFew how many where nobody knows
// whether they can be planned.
const (
	hastenEvery = time.Second
	hastenMost  = 500
	hastenFew   = 20
)

// wellPlanned notes that e was planned: what is put off of its type may be, too.
func (l *Listener) wellPlanned(e *event) {
	if !e.putOff && !l.absences.some.Load() {
		return
	}
	known := l.absences.of(time.Now(), e.Type)
	if !e.putOff && !known {
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
	if t != nil && (e.putOff || e.unplanned > 0) {
		t.all = true
	}
	h.mu.Unlock()
	signal(h.wake)
}

// keepHaste brings forward what is to be, until ctx ends.
func (l *Listener) keepHaste(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.hasten.wake:
		}
		if l.bringForward(ctx) {
			signal(l.hasten.wake)
		}
		wait(ctx, hastenEvery)
	}
}

// bringForward makes one step for each type, and reports whether there is more to do.
func (l *Listener) bringForward(ctx context.Context) (more bool) {
	_, _, end, _ := l.marks.get()
	for typ, t := range l.hasten.all() {
		if ctx.Err() != nil {
			return false
		}
		most := hastenFew
		if t.all {
			most = hastenMost
		}
		n, err := l.store.hastenEvents(ctx, typ, t.from, t.from+walkStep, most)
		switch {
		case err != nil:
			l.sparse.warn("what was put off comes back in its time", err, "type", typ)
			l.hasten.end(typ)
		case n == most && t.all:
		case n > 0 && !t.all:
			l.hasten.end(typ) // whether it can be planned shows now
		case t.from+walkStep >= end:
			l.hasten.end(typ)
			l.absences.over(typ)
		default:
			l.hasten.advance(typ)
		}
	}
	return len(l.hasten.all()) > 0
}

// all returns how far each type is.
func (h *hasten) all() map[string]hastening {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]hastening, len(h.types))
	for typ, t := range h.types {
		out[typ] = *t
	}
	return out
}

func (h *hasten) end(typ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.types, typ)
}

func (h *hasten) advance(typ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.types[typ].from += walkStep
}

// hastenEvents makes events of type typ that are put off due, lower < seq <= upper and at most most of them, and
// returns how many these are. Events that somebody has locked come back in their time.
func (s *store) hastenEvents(ctx context.Context, typ string, lower, upper int64, most int) (n int, err error) {
	err = s.txWith(ctx, forgetable, noJoins, func(b *pgx.Batch) {
		b.Queue(sqlHastenEvents, lower, upper, typ, most).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	})
	return n, err
}
