package listener

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// Pace of the pruner: it looks once a minute while there is something to
// delete, and works for a twentieth of the time. Where that is not enough to
// come to an end it takes more with each minute, see prunePause: what comes in
// faster than it goes would fill the disk, and the other table would never have
// its turn. Where there was nothing it comes back after a thousandth of the
// retention, at the latest when it would begin anew: a database where nothing
// happens is left alone.
const (
	pruneEvery = time.Minute
	pruneFirst = 3 * time.Second // the first look is within it
	pruneLate  = 1000            // what is over may stay so much longer, as a share of its retention
	pruneBatch = 500             // rows looked at by one statement
	pruneShare = 20              // pauses are this many times as long as the batch before, at first
	pruneMost  = 2               // and at least this many times
	pruneHaste = time.Minute     // how long a round goes on until they are half as long
	pruneAnew  = time.Hour       // how often what was passed over is looked at again
	pruneOnce  = time.Second
)

// prunePause says how long to pause after a batch that took so long, in a round that has gone on for so long.
func prunePause(took, since time.Duration) time.Duration {
	return took * time.Duration(max(pruneShare>>(since/pruneHaste), pruneMost))
}

// pruner deletes from one table what is older than keep, in order of the
// events' numbers. It remembers how far it came: below are only rows that had
// to stay when they were looked at, such as an event that waits for a person.
// From time to time it begins at the bottom for them.
//
// It needs no leader. Two that meet pass over what the other has locked.
type pruner struct {
	table string // as people call it, for the log
	query string
	keep  time.Duration
	mend  func(err error) error // adds what to do about it

	from  int64     // everything up to here was looked at
	begun time.Time // when it last began at the bottom; zero: never
	next  time.Time // when it looks again
}

// rest says how long p need not look, after a round that deleted so many rows
// or ended with an error.
func (p *pruner) rest(gone int, err error) time.Duration {
	if gone > 0 || err != nil {
		return pruneEvery
	}
	return min(max(p.keep/pruneLate, pruneEvery), pruneAnew)
}

// pruned is what one batch came to.
type pruned struct {
	looked int   // rows looked at
	gone   int   // rows deleted
	upTo   int64 // the last row that is old; 0: none is
}

// prune deletes one batch.
func (s *store) prune(ctx context.Context, p *pruner, from int64) (pruned, error) {
	var b pruned
	err := s.tx(ctx, forgetable, func(batch *pgx.Batch) {
		batch.Queue(p.query, from, pruneBatch, p.keep.Seconds()).QueryRow(func(row pgx.Row) error {
			failpoint.Hit("K18")
			var upTo *int64
			err := row.Scan(&b.looked, &upTo, &b.gone)
			if upTo != nil {
				b.upTo = *upTo
			}
			return err
		})
	})
	return b, err
}

// round deletes batch after batch until it comes to what is too young, until
// an error, or until rest says that it is enough. rest is told how long the
// last batch took, and how long the round has gone on for.
func (p *pruner) round(ctx context.Context, s storage, rest func(took, since time.Duration) (goOn bool)) (gone int, err error) {
	started := time.Now()
	from := p.from
	if time.Since(p.begun) >= pruneAnew {
		p.begun, from = time.Now(), 0
	}
	for {
		begun := time.Now()
		b, err := s.prune(ctx, p, from)
		if err != nil {
			return gone, p.mend(err)
		}
		gone += b.gone
		from = max(from, b.upTo)
		p.from = max(p.from, from)
		if b.looked < pruneBatch || b.upTo == 0 || !rest(time.Since(begun), time.Since(started)) {
			return gone, nil
		}
	}
}

// newPruners returns what the configuration asks for, the ledger first.
func (l *Listener) newPruners() []*pruner {
	var all []*pruner
	if l.cfg.RetainLedger > 0 {
		all = append(all, &pruner{table: "outbox.deliveries", query: sqlPruneDeliveries, keep: l.cfg.RetainLedger,
			mend: func(err error) error { return err }})
	}
	if l.cfg.RetainProcessed > 0 {
		role := pgx.Identifier{l.cfg.Pool.Config().ConnConfig.User}.Sanitize()
		all = append(all, &pruner{table: "public.outbox_events", query: sqlPruneEvents, keep: l.cfg.RetainProcessed,
			mend: func(err error) error {
				if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
					return &mendable{err, "grant delete on public.outbox_events to " + role + ", or unset OUTBOX_RETAIN_PROCESSED"}
				}
				return err
			}})
	}
	return all
}

// prune deletes what is too old, until ctx ends. It never stops the listener:
// what goes wrong is logged, and tried again a minute later.
func (l *Listener) prune(ctx context.Context) {
	all := l.newPruners()
	if len(all) == 0 {
		return
	}
	// Listeners that were started together do not look in step.
	wait(ctx, pruneFirst/3+rand.N(pruneFirst*2/3))
	through, cancel := throughStop(ctx) // cut off, it would cost the connection
	defer cancel()
	for ctx.Err() == nil {
		l.pruneRound(through, all, func(took, since time.Duration) bool {
			wait(ctx, prunePause(took, since))
			return ctx.Err() == nil
		})
		next := slices.MinFunc(all, func(a, b *pruner) int { return a.next.Compare(b.next) }).next
		wait(ctx, time.Until(next))
	}
}

// pruneBriefly is prune for a listener that runs once: a second of it, so that
// a database which has no other is not filled up.
func (l *Listener) pruneBriefly(ctx context.Context) {
	through, cancel := throughStop(ctx)
	defer cancel()
	begun := time.Now()
	l.pruneRound(through, l.newPruners(), func(time.Duration, time.Duration) bool {
		return ctx.Err() == nil && time.Since(begun) < pruneOnce
	})
}

// pruneRound lets each of all look whose time has come.
func (l *Listener) pruneRound(ctx context.Context, all []*pruner, rest func(took, since time.Duration) bool) {
	for _, p := range all {
		begun := time.Now()
		if begun.Before(p.next) {
			continue
		}
		gone, err := p.round(ctx, l.store, rest)
		p.next = time.Now().Add(p.rest(gone, err))
		if gone > 0 {
			l.log.Info("deleted what is older than its retention", "table", p.table, "rows", gone, "took", time.Since(begun))
		}
		if err != nil {
			l.sparse.warn("not pruned: "+p.table, fmt.Errorf("prune: %w", err))
		}
	}
}
