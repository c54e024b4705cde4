package listener

import (
	"context"
	"fmt"
	"maps"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// suspect is an event, or a delivery that is on its own: what may have brought a
// listener down.
type suspect interface {
	*event | *job
	work() work
	outlivedLease() bool // somebody had it, and their lease ran out
	wasPutOff() bool     // nobody had it since
	noteCrashes(n int)   // that listeners ended with it, n times
	condemn(why string)  // it ends without another try
}

// sift returns those of items that are begun now. Of the others, those whose leases ran out
// again and again wait in the lane to be tried alone, and what must not begin beside them waits
// for that.
func sift[T suspect](ctx context.Context, l *Listener, items []T) []T {
	var ids, origins, putOff uuids
	for _, it := range items {
		switch {
		case it.outlivedLease():
			ids.add(it.work().suspect())
			origins = append(origins, it.work().origin())
		case it.wasPutOff():
			putOff.add(it.work().suspect())
		}
	}
	counts := l.crashes(ctx, ids, origins)
	if more := l.knownCrashes(ctx, putOff); len(counts) == 0 {
		counts = more
	} else {
		maps.Copy(counts, more)
	}
	if len(counts) == 0 && !l.lane.inUse() {
		return items
	}
	var now, others []T
	for _, it := range items {
		n := counts[it.work().suspect()]
		it.noteCrashes(n)
		if n < l.cfg.MaxCrashes {
			others = append(others, it)
			continue
		}
		it.condemn(poison(n))
		l.lane.add(it.work())
		now = append(now, it)
	}
	for _, it := range others {
		if w := it.work(); counts[w.suspect()] == l.cfg.MaxCrashes-1 {
			l.queueAlone(w)
		}
	}
	for _, it := range others {
		w := it.work()
		if n := counts[w.suspect()]; n < l.cfg.MaxCrashes-1 && l.beginsNow(w, n > 0) {
			now = append(now, it)
		}
	}
	return now
}

func (e *event) work() work          { return work{event: e} }
func (e *event) outlivedLease() bool { return e.ranOut }
func (e *event) wasPutOff() bool     { return e.putOff }
func (e *event) noteCrashes(n int)   { e.crashes = n }
func (e *event) condemn(why string)  { e.poison = why }

func (j *job) work() work          { return work{job: j} }
func (j *job) outlivedLease() bool { return j.ranOut }
func (j *job) wasPutOff() bool     { return false }
func (j *job) noteCrashes(int)     {}

// poison is the reason of what is dead since n listeners ended while they had it.
func poison(n int) string { return fmt.Sprintf("poison: %d listeners ended while they had it", n) }

// condemn has j end without another try.
func (j *job) condemn(why string) {
	if j.state == dispatch.Sending || j.state == dispatch.Uncertain {
		why += "; it may have arrived"
	}
	j.Skip, j.Refused, j.destination, j.condemned = "", why, "", true
}

// planPoison plans an event that brings listeners down: what is open of it ends, and
// one delivery more says why. What else the event was to become nobody can tell without
// planning it, and that may be what brings them down.
func (l *Listener) planPoison(ctx context.Context, e *event) (jobs []*job, err error) {
	have, err := l.store.adopt(ctx, e)
	if err != nil {
		return nil, err
	}
	newest := -1
	for _, k := range have {
		newest = max(newest, k.generation)
		if !k.state.Terminal() {
			j := e.resume(&k, dispatch.Message{Route: k.route, Step: k.step, Channel: k.channel, Content: k.content, Terms: k.terms})
			j.condemn(e.poison)
			jobs = append(jobs, j)
		}
	}
	why := e.poison
	if len(have) > 0 {
		why += "; what is not on record of it was not sent"
	}
	return append(jobs, e.newJob(dispatch.Message{Refused: why}, newest+1)), nil
}

// crashes notes that a listener ended while it had each of ids, and returns how often
// that was. One that came from one of origins since goes on from what was noted of that.
func (l *Listener) crashes(ctx context.Context, ids, origins uuids) map[uuid.UUID]int {
	if len(ids) == 0 || l.cfg.MaxCrashes < 0 {
		return nil
	}
	ctx, cancel := throughStop(ctx)
	defer cancel()
	counts, err := l.store.noteCrashes(ctx, ids, origins, l.cfg.MaxCrashes)
	if err != nil {
		l.sparse.warn("that a listener ended is not noted", err)
	}
	return counts
}

// knownCrashes returns how often listeners ended while they had each of ids, which nobody has had since.
func (l *Listener) knownCrashes(ctx context.Context, ids uuids) map[uuid.UUID]int {
	if len(ids) == 0 || l.cfg.MaxCrashes < 0 {
		return nil
	}
	ctx, cancel := throughStop(ctx)
	defer cancel()
	counts, err := l.store.readCrashes(ctx, ids)
	if err != nil {
		l.sparse.warn("how often listeners ended is not known", err)
	}
	return counts
}

// alive takes back that a listener ended while it had ids, soon: this one had them and
// lost its lease, or they are over.
func (l *Listener) alive(ids ...uuid.UUID) {
	if l.cfg.MaxCrashes < 0 {
		return // nothing is counted
	}
	l.lane.mu.Lock()
	for _, id := range ids {
		l.lane.alive.add(id)
	}
	l.lane.mu.Unlock()
	signal(l.lane.lives)
}

// keepAlive writes what alive was told, until ctx ends.
func (l *Listener) keepAlive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
		case <-l.lane.lives:
		}
		l.lane.mu.Lock()
		ids := l.lane.alive
		l.lane.alive = nil
		l.lane.mu.Unlock()
		if len(ids) > 0 {
			l.forgetCrashes(ctx, ids)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// forgetCrashes has ids forgotten; where the database does not do it now, when it is next told to.
func (l *Listener) forgetCrashes(ctx context.Context, ids uuids) {
	through, cancel := throughStop(ctx)
	defer cancel()
	err := l.store.forgetCrashes(through, ids)
	if err == nil {
		return
	}
	l.sparse.warn("leases that ran out count as ends of listeners", err)
	l.lane.mu.Lock()
	if len(l.lane.alive)+len(ids) <= mostForgotten {
		l.lane.alive = append(l.lane.alive, ids...)
	}
	l.lane.mu.Unlock()
}

// mostForgotten is how much waits to be forgotten where the database does not do it.
const mostForgotten = 10000

// suspect is what whoever takes the entry over knows it by.
func (en entry) suspect() uuid.UUID {
	if en.job != nil {
		return en.job.ID
	}
	return en.eventID()
}

func (s *store) noteCrashes(ctx context.Context, ids, origins uuids, most int) (map[uuid.UUID]int, error) {
	counts := map[uuid.UUID]int{}
	err := s.tx(ctx, durable, func(b *pgx.Batch) { b.Queue(sqlNoteCrashes, ids, most, origins).Query(counted(counts)) })
	return counts, err
}

func (s *store) readCrashes(ctx context.Context, ids uuids) (map[uuid.UUID]int, error) {
	counts := map[uuid.UUID]int{}
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) { b.Queue(sqlReadCrashes, ids).Query(counted(counts)) })
	return counts, err
}

// counted reads rows of an id and a count.
func counted(counts map[uuid.UUID]int) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var id [16]byte
		var n int
		_, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { counts[id] = n; return nil })
		return err
	}
}

func (s *store) forgetCrashes(ctx context.Context, ids uuids) error {
	return s.tx(ctx, forgetable, func(b *pgx.Batch) { b.Queue(sqlForgetCrashes, ids) })
}

func (s *store) tryAlone(ctx context.Context, id uuid.UUID, alone bool) error {
	return s.tx(ctx, durable, func(b *pgx.Batch) { b.Queue(sqlTryAlone, [16]byte(id), alone) })
}
