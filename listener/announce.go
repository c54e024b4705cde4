package listener

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// announcer commits "sending" before the first byte of a delivery leaves,
// for channels where a second send would be seen, many at a time.
type announcer struct {
	store  storage
	sparse *sparse
	stop   context.Context
	*batcher[announcement]
}

type announcement struct {
	job   *job
	ok    chan announced // has room for the answer
	asked bool           // a try had no answer: it may have been committed
}

// announced is what came of an announcement.
type announced int

const (
	unclear   announced = iota // the database did not answer in time
	refused                    // no longer ours, or not for long enough
	committed                  // it may leave
)

func newAnnouncer(stop context.Context, s storage, log *slog.Logger) *announcer {
	a := &announcer{store: s, sparse: newSparse(log), stop: stop}
	a.batcher = newBatcher(500, 8<<20, announcement.bytes, a.write)
	return a
}

func (an announcement) bytes() int    { return 500 + len(an.job.Content) }
func (an announcement) id() uuid.UUID { return an.job.ID }

// announce returns once j stands as "sending" in the ledger. Unless it answers
// committed, j must not be sent.
func (a *announcer) announce(ctx context.Context, j *job) announced {
	an := announcement{job: j, ok: make(chan announced, 1)}
	a.add(an)
	select {
	case ok := <-an.ok:
		return ok
	case <-ctx.Done():
		// The commit may come all the same: the row then says "sending"
		// of a delivery that never left, which is settled like any other.
		return <-an.ok
	}
}

func (a *announcer) write(batch []announcement) {
	if first, again := unique(batch, announcement.id); len(again) > 0 {
		a.write(first)
		a.write(again)
		return
	}
	for try := 1; ; try++ {
		if batch = a.inTime(batch); len(batch) == 0 {
			return
		}
		kept, err := a.store.announce(a.stop, batch)
		if err == nil {
			for _, an := range batch {
				if kept[an.job.ID] {
					an.ok <- committed
				} else {
					an.ok <- an.without()
				}
			}
			return
		}
		if isLocked(err) || isRefused(err) {
			// One of them is in the way: it is not sent, the others are.
			if len(batch) == 1 {
				a.sparse.warn("delivery not announced, not sent", err, "event", batch[0].job.EventID)
				batch[0].ok <- unclear
				return
			}
			for _, an := range batch {
				a.write([]announcement{an})
			}
			return
		}
		a.sparse.warn("deliveries not announced, not sent", err, "count", len(batch), "try", try)
		for i := range batch {
			batch[i].asked = true
		}
		wait(a.stop, pause(try))
	}
}

// inTime returns what of batch has enough of its lease left, and answers the rest. At a stop that is
// what was asked for before.
func (a *announcer) inTime(batch []announcement) []announcement {
	return slices.DeleteFunc(batch, func(an announcement) bool {
		late := an.asked && a.stop.Err() != nil || an.job.leaseLeft() < margin(a.store.ttl())
		if late {
			an.ok <- an.without()
		}
		return late
	})
}

// without is the answer where the ledger does not say that an is on record: it may be all the same, where it was
// asked for before and the answer was lost.
func (an announcement) without() announced {
	if an.asked {
		return unclear
	}
	return refused
}

// margin is how much of a lease must be left to begin something.
func margin(ttl time.Duration) time.Duration { return min(ttl/10, 2*time.Second) }

func (s *store) announce(ctx context.Context, batch []announcement) (map[uuid.UUID]bool, error) {
	kept := make(map[uuid.UUID]bool, len(batch))
	var fresh, again []*job
	for _, an := range batch {
		if an.job.known {
			again = append(again, an.job)
		} else {
			fresh = append(fresh, an.job)
		}
	}
	bySeq := func(a, b *job) int { return cmp.Compare(a.seq, b.seq) }
	slices.SortFunc(fresh, bySeq)
	slices.SortFunc(again, bySeq)
	note := func(rows pgx.Rows) error { return eachID(rows, func(id uuid.UUID) { kept[id] = true }) }
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		if len(fresh) > 0 {
			var c columns
			var likeness []*int32
			for _, j := range fresh {
				likeness = append(likeness, j.likeness)
				c.add(row{job: j, state: dispatch.Sending, attempts: j.attempts + 1, content: text(j.Content)})
			}
			b.Queue(sqlAnnounceNew, c.seqs, c.claims, c.ids, c.events, c.types, c.created, c.routes, c.steps,
				c.channels, c.recipients, c.attempts, c.generations, c.contents, likeness, margin(s.lease).Seconds()).Query(note)
		}
		if len(again) > 0 {
			ids, claims := jobFences(again)
			attempts, likeness := make([]int, len(again)), make([]*int32, len(again))
			for i, j := range again {
				attempts[i], likeness[i] = j.attempts+1, j.likeness
			}
			b.Queue(sqlAnnounceAgain, ids, claims, attempts, likeness, margin(s.lease).Seconds()).Query(note)
		}
	})
	return kept, err
}
