package listener

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// siftEvents returns those of events that are begun now. Of the others, whose
// leases ran out again and again, each waits in the lane.
func (l *Listener) siftEvents(events []*event) []*event {
	var ids uuids
	for _, e := range events {
		if e.ranOut {
			ids.add(e.ID)
		}
	}
	counts := l.crashes(ids)
	if len(counts) == 0 {
		return events
	}
	now := make([]*event, 0, len(events))
	for _, e := range events {
		switch n := counts[e.ID]; {
		case n >= l.cfg.MaxCrashes:
			e.poison = poison(n)
			l.alive(e.ID) // who opens it again begins anew
		case n == l.cfg.MaxCrashes-1:
			l.queueAlone(work{event: e})
			continue
		}
		now = append(now, e)
	}
	return now
}

// siftJobs does the same with deliveries that are on their own.
func (l *Listener) siftJobs(jobs []*job) []*job {
	var ids uuids
	for _, j := range jobs {
		if j.ranOut {
			ids.add(j.ID)
		}
	}
	counts := l.crashes(ids)
	if len(counts) == 0 {
		return jobs
	}
	now := make([]*job, 0, len(jobs))
	for _, j := range jobs {
		switch n := counts[j.ID]; {
		case n >= l.cfg.MaxCrashes:
			j.condemn(poison(n))
			l.alive(j.ID)
		case n == l.cfg.MaxCrashes-1:
			l.queueAlone(work{job: j})
			continue
		}
		now = append(now, j)
	}
	return now
}

// poison is the reason of what is dead since n listeners ended while they had it.
func poison(n int) string { return fmt.Sprintf("poison: %d listeners ended while they had it", n) }

// condemn has j end without another try.
func (j *job) condemn(why string) {
	if j.state == dispatch.Sending || j.state == dispatch.Uncertain {
		why += "; it may have arrived"
	}
	j.Skip, j.Refused, j.destination = "", why, ""
}

// planPoison plans an event that brings listeners down: what is open of it ends, and
// where there is nothing, one delivery says why.
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
	if len(jobs) == 0 {
		jobs = []*job{e.newJob(dispatch.Message{Refused: e.poison}, newest+1)}
	}
	return jobs, nil
}

// crashes notes that a listener ended while it had each of ids, and returns how often
// that was.
func (l *Listener) crashes(ids uuids) map[uuid.UUID]int {
	if len(ids) == 0 || l.cfg.MaxCrashes < 0 {
		return nil
	}
	counts := map[uuid.UUID]int{}
	err := l.store.tx(context.Background(), durable, func(b *pgx.Batch) {
		b.Queue(sqlNoteCrashes, ids, l.cfg.MaxCrashes).Query(func(rows pgx.Rows) error {
			var id [16]byte
			var n int
			_, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { counts[id] = n; return nil })
			return err
		})
	})
	if err != nil {
		l.sparse.warn("that a listener ended is not noted", err)
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
			return
		case <-l.lane.lives:
		}
		l.lane.mu.Lock()
		ids := l.lane.alive
		l.lane.alive = nil
		l.lane.mu.Unlock()
		err := l.store.tx(ctx, forgetable, func(b *pgx.Batch) { b.Queue(sqlForgetCrashes, ids) })
		if err != nil && ctx.Err() == nil {
			l.sparse.warn("leases that ran out count as ends of listeners", err)
		}
	}
}

// suspect is what whoever takes the entry over knows it by.
func (en entry) suspect() uuid.UUID {
	if en.job != nil {
		return en.job.ID
	}
	return en.eventID()
}
