package listener

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// claimRange leases, of the limit times times events that are numbered from lower + 1 on, those that
// nobody ever claimed. Where one of them is locked, and stays so, it leases none: see waitedInVain.
func (s *store) claimRange(ctx context.Context, lower int64, limit, times int) ([]claimed, error) {
	c := s.newClaiming(times)
	err := s.claim(ctx, func(b *pgx.Batch) {
		b.Queue(sqlRangeWaits)
		b.Queue(sqlClaimRange, lower, limit, s.lease.Seconds(), c.fences, inlinePayload).Query(func(rows pgx.Rows) error {
			failpoint.Hit("K2")
			for rows.Next() {
				var e event
				if err := rows.Scan(&e.seq, (*[16]byte)(&e.ID), &e.Type, &e.CreatedAt, (*[]byte)(&e.Payload)); err != nil {
					return err
				}
				c.add(&e, int(e.seq-lower-1)/limit)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, err
	}
	return c.claims(), nil
}

// sqlRangeWaits bounds how long claimRange waits for a row that somebody has locked, and for all of them
// together, in milliseconds.
const sqlRangeWaits = `select set_config('lock_timeout', '20', true), set_config('statement_timeout', '1000', true)`

// mayGoOn has the next claim go by numbers where those of claims, all that there were above lower and full,
// lie close together, and none of them was claimed before: so it is in a backlog.
func (s *store) mayGoOn(claims []claimed, lower int64) {
	if s.wary.Load() > 0 {
		s.wary.Add(-1)
		return
	}
	again := func(e *event) bool { return e.again }
	last := highest(claims)
	if mostOfThem(events(claims), int(last-lower)) && !slices.ContainsFunc(claims, func(c claimed) bool { return slices.ContainsFunc(c.events, again) }) {
		s.dense.Store(last)
	}
}

// mostOfThem reports whether n of so many numbers in a row are so many that a claim goes by the numbers: few
// were rolled back, or are somebody's. What they are is asked all the same, of those numbers alone, which costs less
// than to look for each event.
func mostOfThem(n, numbers int) bool { return numbers-n <= numbers/8 }

// waryClaims is how many claims are made by claim_events.sql alone, once one by numbers has waited in vain:
// full ones, which are those of a second or so.
const waryClaims = 100

// waitedInVain reports whether err says that a row did not become free in time.
func waitedInVain(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return isLocked(err) || ok && pg.Code == "57014" // of statement_timeout: several rows, one after the other
}
