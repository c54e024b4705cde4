package listener

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// claimed is one claim of events: at least one, in order of seq.
type claimed struct {
	lease  *lease
	events []*event
}

// claimEvents leases events with lower < seq <= upper, the first of them: limit times times events,
// under claims of at most limit. It returns those that
// brought something, and whether more may be there: they have as many as was asked for, or all of as
// many numbers.
//
// Any error comes from the database and is safe to repeat: events whose claim
// committed but whose answer was lost wait out their lease. Claims that come with an error are
// ours all the same, and say nothing of what else is there.
func (s *store) claimEvents(ctx context.Context, lower, upper int64, limit, times int) (claims []claimed, full bool, err error) {
	left, end, ranged := limit*times, upper, false
	if lower > 0 && int64(left) <= upper-lower && s.dense.CompareAndSwap(lower, 0) {
		claims, err = s.claimRange(ctx, lower, limit, times)
		got := events(claims)
		switch {
		case waitedInVain(err): // claim_events.sql goes around it
			s.wary.Store(waryClaims)
		case err != nil:
			return nil, false, err
		case mostOfThem(got, left):
			end, ranged = lower+int64(left), true
		}
		left -= got
	}
	for full = true; full && left > 0; {
		more, filled, err := s.claimFound(ctx, lower, end, min(limit, left), max(left/limit, 1))
		if err != nil {
			return claims, false, err
		}
		claims, full = append(claims, more...), filled
		left -= events(more)
	}
	if ranged { // nothing is left up to end, and what lies behind was not asked for
		if s.wary.Load() == 0 {
			s.dense.Store(highest(claims))
		}
		return claims, true, nil
	}
	return claims, full, nil
}

// events is how many events claims have.
func events(claims []claimed) (n int) {
	for _, c := range claims {
		n += len(c.events)
	}
	return n
}

// highest is the highest number that claims have; 0 where they have none.
func highest(claims []claimed) (seq int64) {
	for _, c := range claims {
		seq = max(seq, c.events[len(c.events)-1].seq)
	}
	return seq
}

// claimFound is claimEvents by claim_events.sql, in one statement.
func (s *store) claimFound(ctx context.Context, lower, upper int64, limit, times int) (claims []claimed, full bool, err error) {
	c := s.newClaiming(times)
	err = s.claim(ctx, func(b *pgx.Batch) {
		b.Queue(sqlClaimEvents, lower, upper, limit, s.lease.Seconds(), c.fences, inlinePayload).Query(func(rows pgx.Rows) error {
			failpoint.Hit("K2")
			for rows.Next() {
				var e event
				var place int
				if err := rows.Scan(&e.seq, (*[16]byte)(&e.ID), &e.Type, &e.CreatedAt, &e.again, &e.ranOut, &e.putOff, (*[]byte)(&e.Payload), &place); err != nil {
					return err
				}
				c.add(&e, place-1)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, false, err
	}
	full = len(c.all[times-1].events) == limit
	claims = c.claims()
	if full {
		s.mayGoOn(claims, lower)
	}
	return claims, full, nil
}

// claim runs a statement that claims events.
func (s *store) claim(ctx context.Context, queue func(b *pgx.Batch)) error {
	var read func()
	err := s.txWith(ctx, forgetable, noJoins, func(b *pgx.Batch) {
		read = s.readAlong(b)
		queue(b)
	})
	if err != nil {
		return fmt.Errorf("claim events: %w", err)
	}
	read()
	return nil
}

// claiming is claims that are on their way.
type claiming struct {
	all    []claimed
	fences uuids
}

func (s *store) newClaiming(times int) *claiming {
	c := &claiming{all: make([]claimed, times)}
	sent := time.Now()
	for i := range c.all {
		c.all[i].lease = newLease(sent, s.lease)
		c.fences.add(c.all[i].lease.claim)
	}
	return c
}

// add has e under the claim at place, from 0.
func (c *claiming) add(e *event, place int) {
	to := &c.all[place]
	e.lease, e.Printed = to.lease, true
	to.events = append(to.events, e)
}

// claims returns those that brought something.
func (c *claiming) claims() (out []claimed) {
	for _, c := range c.all {
		if len(c.events) == 0 {
			continue
		}
		slices.SortFunc(c.events, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
		for _, e := range c.events {
			c.lease.events[e.seq] = e
		}
		out = append(out, c)
	}
	return out
}

// known is what the ledger has of one event that was claimed before.
type known struct {
	id         uuid.UUID
	route      string
	step       string
	recipient  string // masked
	channel    dispatch.Channel
	state      dispatch.State
	attempts   int
	generation int
	content    json.RawMessage
	terms      *dispatch.Terms
	at         *time.Time // when it is due, where it is scheduled, or was when a person held it
	found      string     // what its provider calls it, where it is known to have it
	lastError  string
	expired    bool // its deadline has passed
	required   bool // it holds its event open
}

// termColumns are what the ledger has of a delivery's terms, as claim_due.sql
// and adopt_deliveries.sql give them.
type termColumns struct {
	expired                  *bool
	retry, supersedes, scope *string
	insteadOf                *string
	after                    []string
	ordering                 *string
}

func (c *termColumns) targets() []any {
	return []any{&c.expired, &c.retry, &c.supersedes, &c.after, &c.scope, &c.insteadOf, &c.ordering}
}

// terms returns nil where a delivery has none.
func (c *termColumns) terms() (*dispatch.Terms, error) {
	if c.retry == nil && c.supersedes == nil && c.after == nil && c.scope == nil && c.insteadOf == nil && c.ordering == nil {
		return nil, nil
	}
	t := &dispatch.Terms{After: c.after}
	if c.retry != nil {
		if err := json.Unmarshal([]byte(*c.retry), &t.Retry); err != nil {
			return nil, fmt.Errorf("the column retry: %w", err)
		}
	}
	if c.supersedes != nil {
		t.Supersedes = *c.supersedes
	}
	if c.insteadOf != nil {
		t.InsteadOf = *c.insteadOf
	}
	if c.ordering != nil {
		t.Ordering = *c.ordering
	}
	if c.scope != nil {
		t.Scope = json.RawMessage(*c.scope)
	}
	return t, nil
}

// adopt brings what the ledger knows of e, and takes over its open rows.
func (s *store) adopt(ctx context.Context, e *event) ([]known, error) {
	var out []known
	err := s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlAdoptDeliveries, []int64{e.seq}, uuids{{Bytes: e.lease.claim, Valid: true}}).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var k known
				var seq int64
				var c termColumns
				err := rows.Scan(append([]any{&seq, (*[16]byte)(&k.id), &k.route, &k.step, &k.recipient, &k.channel,
					&k.state, &k.attempts, &k.generation, (*[]byte)(&k.content), &k.at}, append(c.targets(), &k.found, &k.lastError, &k.required)...)...)
				if err == nil {
					k.terms, err = c.terms()
				}
				k.expired = c.expired != nil && *c.expired
				if err != nil {
					return err
				}
				out = append(out, k)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("adopt deliveries: %w", err)
	}
	return out, nil
}

// loadPayload reads a payload that was too large to come with the claim. It
// returns nil and the size when it is larger than what is allowed.
func (s *store) loadPayload(ctx context.Context, seq int64) (text []byte, size int, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlLoadPayload, seq, s.maxPayload).QueryRow(func(row pgx.Row) error { return row.Scan(&size, &text) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoEvent
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load payload: %w", err)
	}
	return text, size, nil
}

var errNoEvent = errors.New("there is no such event")

// claimDue leases up to limit deliveries whose time has come. The lease is
// nil when there was none.
func (s *store) claimDue(ctx context.Context, limit int) (*lease, []*job, error) {
	sent := time.Now()
	l := newLease(sent, s.lease)
	var jobs []*job
	var read func()
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) {
		read = s.readAlong(b)
		b.Queue(sqlClaimDue, limit, s.lease.Seconds(), [16]byte(l.claim)).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				j := &job{lease: l, known: true}
				var c termColumns
				err := rows.Scan(append([]any{(*[16]byte)(&j.ID), (*[16]byte)(&j.EventID), &j.seq, &j.Type, &j.Date, &j.Route, &j.Step, &j.Channel,
					&j.state, &j.attempts, &j.generation, &j.lastError, (*[]byte)(&j.Content)}, append(c.targets(), &j.ranOut, &j.found)...)...)
				if err == nil {
					j.Terms, err = c.terms()
				}
				if err != nil {
					return err
				}
				if c.ordering != nil {
					j.line = *c.ordering
				}
				j.expired = c.expired != nil && *c.expired
				jobs = append(jobs, j)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claim due deliveries: %w", err)
	}
	read()
	if len(jobs) == 0 {
		return nil, nil, nil
	}
	for _, j := range jobs {
		l.jobs[j.ID] = j
	}
	return l, jobs, nil
}

// nextDue brings the floor, what is paused, and how long it is until a delivery
// is due; false when none waits. It sets the clock, and takes in what is braked. It
// sends a heartbeat to the wake name beatTo, unless that is "".
func (s *store) nextDue(ctx context.Context, beatTo string) (floor int64, paused pauses, due time.Duration, waits bool, err error) {
	var secs *float64
	var now time.Time
	var holds []byte
	sent := time.Now()
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlNextDue, beatTo).QueryRow(func(row pgx.Row) error { return row.Scan(&floor, &secs, &now, &holds, nil) })
	})
	var braked []onBrake
	if err == nil {
		paused, braked, err = readHolds(holds)
	}
	if err != nil {
		return 0, nil, 0, false, fmt.Errorf("next due: %w", err)
	}
	if s.clock != nil {
		s.clock.Set(now)
	}
	if s.brakes != nil {
		s.brakes.read(sent, braked)
	}
	if secs == nil || *secs > longestWait.Seconds() {
		return floor, paused, 0, false, nil
	}
	return floor, paused, time.Duration(*secs * float64(time.Second)), true, nil
}

// longestWait keeps a due time in the far future from overflowing a Duration;
// sweeps ask again long before.
const longestWait = 365 * 24 * time.Hour
