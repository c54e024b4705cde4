package listener

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// isLocked reports whether err says that a row lock did not become free in
// time, or that waiting for it would never end.
func isLocked(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "55P03" || pg.Code == "40P01")
}

// isTwin reports whether err says that a row is there already.
func isTwin(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505"
}

// isRefused reports whether err says that what was to be written is at fault:
// data exceptions, violated constraints, program limits. Trying again would
// not help.
func isRefused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "54")
}

// recordEvents writes whole events and returns the seqs that were still ours.
func (s *store) recordEvents(ctx context.Context, entries []entry) (map[int64]bool, error) {
	kept := make(map[int64]bool, len(entries))
	var first, further columns
	var parked []bool
	sortBySeq(entries)
	for _, en := range entries {
		parked = append(parked, anyOpen(en.rows))
		if len(en.rows) == 0 {
			first.addNone(en.event)
			continue
		}
		first.add(en.rows[0])
		for _, r := range en.rows[1:] {
			further.add(r)
		}
	}
	args := append(append(first.args(), parked), further.args()...)
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlRecordEvents, args...).Query(func(rows pgx.Rows) error {
			failpoint.Hit("K10")
			return each(rows, func(seq int64) { kept[seq] = true })
		})
		noteHeld(b, slices.Concat(first.held, further.held))
		first.attemptRows.queue(b)
		further.attemptRows.queue(b)
	})
	return kept, err
}

// recordFresh writes events that are fresh and returns the seqs that were still
// ours, nil where that is all of them.
func (s *store) recordFresh(ctx context.Context, entries []entry) (map[int64]bool, error) {
	var kept map[int64]bool
	c := freshColumns(len(entries))
	var parked []bool // nil where none is
	sortBySeq(entries)
	for i, en := range entries {
		if anyOpen(en.rows) {
			if parked == nil {
				parked = make([]bool, len(entries))
			}
			parked[i] = true
		}
		c.add(en.rows[0])
	}
	query, args := sqlRecordAlike, c.alikeArgs(parked)
	if args == nil {
		query, args = sqlRecordFresh, c.freshArgs(parked)
	}
	err := s.txWith(ctx, durable, hashes, func(b *pgx.Batch) {
		b.Queue(query, args...).QueryRow(func(row pgx.Row) error {
			failpoint.Hit("K10")
			var some *[]int64
			if err := row.Scan(&some); err != nil || some == nil {
				return err
			}
			kept = make(map[int64]bool, len(*some))
			for _, seq := range *some {
				kept[seq] = true
			}
			return nil
		})
		c.attemptRows.queue(b)
	})
	return kept, err
}

// noteHeld follows a record of deliveries of which those with ids are to be held, and
// adds nothing where there are none.
func noteHeld(b *pgx.Batch, ids uuids) {
	if len(ids) > 0 {
		b.Queue(sqlNoteHeld, ids)
	}
}

// sortBySeq puts entries in the order in which everybody locks rows.
func sortBySeq(entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int {
		if c := cmp.Compare(a.seq(), b.seq()); c != 0 || a.job == nil || b.job == nil {
			return c
		}
		return bytes.Compare(a.job.ID[:], b.job.ID[:])
	})
}

// anyOpen reports whether a row keeps its event from being processed.
func anyOpen(rows []row) bool {
	for _, r := range rows {
		if !r.state.Terminal() && r.state != dispatch.Scheduled {
			return true
		}
	}
	return false
}

// busyEvents returns which events of entries somebody else has locked. An error is also
// that a whole table is: then nothing can be written, whatever it is about.
func (s *store) busyEvents(ctx context.Context, entries []entry) (map[int64]bool, error) {
	busy := map[int64]bool{}
	var seqs []int64
	for _, en := range entries {
		seqs = append(seqs, en.seq())
	}
	var tables []string
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) { // by itself: the other one would wait for such a table
		b.Queue(sqlLockedTables).Query(func(rows pgx.Rows) error {
			return each(rows, func(table string) { tables = append(tables, table) })
		})
	})
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("somebody has locked %s, or waits to", strings.Join(tables, " and "))
	}
	if err != nil {
		return nil, err
	}
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlBusyEvents, seqs).Query(func(rows pgx.Rows) error {
			return each(rows, func(seq int64) { busy[seq] = true })
		})
	})
	return busy, err
}

// recordOrphans writes the deliveries of events whose rows are gone, and returns
// their ids.
func (s *store) recordOrphans(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	written := map[uuid.UUID]bool{}
	var cols columns
	for _, en := range entries {
		for _, r := range en.rows {
			cols.add(r)
		}
	}
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlRecordOrphans, cols.args()...).Query(func(rows pgx.Rows) error {
			return eachID(rows, func(id uuid.UUID) { written[id] = true })
		})
		noteHeld(b, cols.held)
	})
	return written, err
}

// recordDeliveries writes deliveries that are on their own, settles their
// events, and returns the ids that were still ours.
func (s *store) recordDeliveries(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	kept := make(map[uuid.UUID]bool, len(entries))
	var seqs []int64
	var ids, claims, successors, held uuids
	var states []string
	var attempts []int
	var providers, lastErrors []*string
	var due []*float64
	var answers []*string
	followed, released := false, 0
	var again uuids // what may have been superseded while it was sent
	var tries attemptColumns
	sortBySeq(entries)
	for _, en := range entries {
		r := en.own(s.lease)
		if en.plain {
			r.strip()
		}
		seqs = append(seqs, en.job.seq)
		ids.add(en.job.ID)
		claims.add(en.job.lease.claim)
		states = append(states, string(r.state))
		if r.state == dispatch.Held {
			held.add(en.job.ID)
		}
		attempts = append(attempts, r.attempts)
		providers = append(providers, r.providerID)
		lastErrors = append(lastErrors, r.lastError)
		due = append(due, r.dueIn)
		answers = append(answers, text(en.job.answer(en.plain)))
		followed = followed || en.job.mayBeFollowed()
		if en.job.mayBeSuperseded(r.state) || r.kept != nil && (r.state == dispatch.Retry || r.state == dispatch.Ready) { // a spool has no keys
			again.add(en.job.ID)
		}
		successors.add(en.job.lease.successor())
		tries.add(r)
	}
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlLockEvents, seqs)
		b.Queue(sqlRecordDeliveries, ids, claims, states, attempts, providers, lastErrors, due, successors, answers).Query(func(rows pgx.Rows) error {
			failpoint.Hit("K10")
			return eachID(rows, func(id uuid.UUID) { kept[id] = true })
		})
		noteHeld(b, held)
		tries.queue(b)
		if len(again) > 0 {
			b.Queue(sqlCancelSuperseded, again)
		}
		if followed || len(again) > 0 {
			s.releaseFollowers(b, ids, &released)
		}
		s.recall(b, entries, &released)
		b.Queue(sqlSettleEvents, seqs)
	})
	s.tellDue(err, released)
	return kept, err
}
