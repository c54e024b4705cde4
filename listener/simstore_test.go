package listener

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// simDB is the tables of a simulation: the reference, which TestDifferential holds
// against Postgres, and all that may go wrong around a transaction.
type simDB struct {
	mu      sync.Mutex
	r       *rand.Rand
	ref     *reference
	lease   time.Duration
	flushed *reference             // what a crash of the server leaves; nil where that is ref
	writers map[int64]bool         // numbers that were handed out in transactions which are open
	highest int64                  // the highest number that was handed out
	floor   int64                  // of outbox.state
	owners  map[uuid.UUID]*simProc // of claims
	crashed map[uuid.UUID]*simCrash
	brakes  map[string]*simBrake
	away    time.Time // until then nobody answers
	forgot  time.Time // when claims were last forgotten
	trouble float64   // how likely each thing is to go wrong, from 0 to 1
	ops     int
}

// simCrash is a row of outbox.crashes.
type simCrash struct {
	count int
	alone bool
}

func newSimDB(r *rand.Rand, lease time.Duration) *simDB {
	return &simDB{r: r, ref: newReference(lease), lease: lease, writers: map[int64]bool{}, owners: map[uuid.UUID]*simProc{}, crashed: map[uuid.UUID]*simCrash{}, brakes: map[string]*simBrake{}}
}

// chance reports whether something goes wrong that does so with probability p where
// there is all trouble. The caller holds db.mu.
func (db *simDB) chance(p float64) bool { return db.r.Float64() < p*db.trouble }

// clone is for a server that may crash: what is committed and not on disk is gone then.
func (m *reference) clone() *reference {
	c := *m
	c.events, c.rows, c.names, c.tries = map[uuid.UUID]*refEvent{}, map[uuid.UUID]*refRow{}, maps.Clone(m.names), maps.Clone(m.tries)
	for id, e := range m.events {
		kept := *e
		c.events[id] = &kept
	}
	for id, r := range m.rows {
		kept := *r
		kept.looked = slices.Clone(r.looked)
		c.rows[id] = &kept
	}
	return &c
}

// crash ends the server: it is away for a while, and has forgotten what was not on
// disk, if so the disk will have it.
func (db *simDB) crash(lasts time.Duration) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.flushed != nil && db.r.IntN(2) == 0 {
		db.ref, db.forgot = db.flushed, time.Now()
	}
	db.flushed = nil
	for id, e := range db.ref.events {
		if e.hidden { // its transaction ended with the server
			delete(db.ref.events, id)
		}
	}
	clear(db.writers)
	db.highest += db.r.Int64N(32) // a sequence is logged ahead
	db.away = time.Now().Add(lasts)
}

var (
	errSimAway = errors.New("simulated: the server is away")
	errSimLost = errors.New("simulated: the connection broke; nobody knows whether it was committed")
	errSimDead = errors.New("simulated: this process is no more")
)

// simStore is the storage of one simulated process.
type simStore struct {
	db   *simDB
	proc *simProc
	due  func()

	brakes *brakes
}

var _ storage = (*simStore)(nil)

func (s *simStore) ttl() time.Duration { return s.db.lease }
func (s *simStore) payloadLimit() int  { return 1 << 20 }
func (s *simStore) onDue(f func())     { s.due = f }

// holdKept is not asked: listeners of a simulation keep no files.
func (s *simStore) holdKept(context.Context, []*job) error { return errors.ErrUnsupported }

func (s *simStore) identify(context.Context) (string, error) { return "simulated", nil }

// do runs f as one transaction. Around it the network takes its time, the process may
// stand still or be gone, the server be away, the transaction not come about, or its
// answer be lost.
func (s *simStore) do(ctx context.Context, commit string, f func(m *reference) error) error {
	db := s.db
	db.mu.Lock()
	before, after := db.latency(), db.latency()
	db.mu.Unlock()
	time.Sleep(before)
	s.proc.stand()
	if err := s.proc.err(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	db.ops++
	var err error
	lost := db.chance(0.02)
	switch {
	case time.Now().Before(db.away), db.chance(0.02):
		err = errSimAway
	default:
		if commit == forgetable && db.flushed == nil {
			db.flushed = db.ref.clone()
		}
		if err = f(db.ref); err == nil && commit == durable {
			db.flushed = nil
		}
	}
	db.mu.Unlock()
	time.Sleep(after)
	s.proc.stand()
	if dead := s.proc.err(); dead != nil {
		return dead
	}
	if err == nil && lost {
		return errSimLost
	}
	return err
}

// latency is mostly a millisecond, and now and then seconds.
func (db *simDB) latency() time.Duration {
	if db.chance(0.01) {
		return time.Duration(db.r.Int64N(int64(4 * time.Second)))
	}
	return 50*time.Microsecond + time.Duration(db.r.Int64N(int64(2*time.Millisecond)))
}

func (s *simStore) claimEvents(ctx context.Context, lower, upper int64, limit, times int) (claims []claimed, full bool, err error) {
	sent := time.Now()
	all := make([]claimed, times)
	for i := range all {
		all[i].lease = newLease(sent, s.ttl())
	}
	ask, read := s.readAlong()
	asked, ranged := limit*times, false
	err = s.do(ctx, forgetable, func(m *reference) error {
		ask()
		n, last := 0, upper
		if lower > 0 && int64(asked) <= upper-lower && s.db.chance(0.5) { // as after a claim that ended there
			if ranged = m.byNumbers(lower, asked); ranged {
				last = lower + int64(asked)
			}
		}
		for _, e := range m.ordered() {
			if e.hidden || e.seq <= lower || e.seq > last || e.processed || !e.lease.IsZero() && !m.over(e.lease) {
				continue
			}
			if n == asked {
				break
			}
			c := &all[n/limit]
			n++
			again, ranOut, putOff := m.claimEvent(e.seq, c.lease.claim)
			s.db.owners[c.lease.claim] = s.proc
			c.events = append(c.events, &event{
				Event: dispatch.Event{ID: e.id, Type: e.typ, Payload: []byte(`{}`), CreatedAt: e.at},
				seq:   e.seq, lease: c.lease, again: again, ranOut: ranOut, putOff: putOff,
			})
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	read()
	for _, c := range all {
		if len(c.events) == 0 {
			break
		}
		for _, e := range c.events {
			c.lease.events[e.seq] = e
		}
		claims = append(claims, c)
	}
	return claims, ranged || len(all[times-1].events) == limit, nil
}

func (s *simStore) claimDue(ctx context.Context, limit int) (*lease, []*job, error) {
	l := newLease(time.Now(), s.ttl())
	var jobs []*job
	ask, read := s.readAlong()
	err := s.do(ctx, forgetable, func(m *reference) error {
		ask()
		due := slices.SortedFunc(maps.Values(m.rows), func(a, b *refRow) int {
			return cmp.Or(a.due.Compare(b.due), bytes.Compare(a.id[:], b.id[:]))
		})
		for _, r := range due {
			if !m.over(r.due) || len(jobs) == limit {
				continue
			}
			j := &job{
				Delivery: r.of, seq: r.seq, generation: r.generation, attempts: r.attempts, state: r.state, known: true,
				lastError: r.lastError, found: r.provider, lease: l, ranOut: r.claim != uuid.Nil && r.claim.Version() != 5,
			}
			j.Recipient = ""
			if j.Terms = r.terms(); j.Terms != nil {
				j.line = j.Terms.Ordering
			}
			r.due, r.claim = m.soon(), l.claim
			jobs = append(jobs, j)
		}
		s.db.owners[l.claim] = s.proc
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if read(); len(jobs) == 0 {
		return nil, nil, nil
	}
	for _, j := range jobs {
		l.jobs[j.ID] = j
	}
	return l, jobs, nil
}

func (s *simStore) adopt(ctx context.Context, e *event) (out []known, err error) {
	err = s.do(ctx, durable, func(m *reference) error {
		for _, r := range m.adopt(e.seq, e.lease.claim) {
			k := known{
				id: r.id, route: r.of.Route, step: r.step, recipient: dispatch.Mask(r.of.Channel, r.of.Recipient), channel: r.of.Channel,
				state: r.state, attempts: r.attempts, generation: r.generation, content: r.of.Content, found: r.provider,
				lastError: r.lastError, required: r.required,
			}
			k.terms = r.terms()
			if (r.state == dispatch.Scheduled || r.state == dispatch.Held) && !r.due.IsZero() {
				k.at = &r.due
			}
			out = append(out, k)
		}
		return nil
	})
	return out, err
}

func (s *simStore) loadPayload(ctx context.Context, seq int64) (text []byte, size int, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		if m.bySeq(seq) == nil {
			return errNoEvent
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return []byte(`{}`), 2, nil
}

func (s *simStore) nextDue(ctx context.Context, _ string) (floor int64, paused pauses, due time.Duration, waits bool, err error) {
	sent := time.Now()
	var braked []onBrake
	err = s.do(ctx, forgetable, func(m *reference) error {
		floor, braked = s.db.floor, s.db.braked()
		for _, r := range m.rows {
			if d := time.Until(r.due); !r.due.IsZero() && (!waits || d < due) {
				due, waits = d, true
			}
		}
		return nil
	})
	if err == nil && s.brakes != nil {
		s.brakes.read(sent, braked)
	}
	return floor, nil, due, waits, err
}

func (s *simStore) renew(ctx context.Context, events []*event, jobs []*job) (keptLeases, error) {
	kept := keptLeases{map[heldEvent]bool{}, map[heldJob]bool{}}
	err := s.do(ctx, forgetable, func(m *reference) error {
		for _, e := range events {
			if m.renewEvent(e.seq, e.lease.claim) {
				kept.events[heldEvent{e.seq, e.lease.claim}] = true
			}
		}
		for _, j := range jobs {
			if m.renewDelivery(j.ID, j.lease.claim) {
				kept.jobs[heldJob{j.ID, j.lease.claim}] = true
			}
		}
		return nil
	})
	return kept, err
}

func (s *simStore) release(ctx context.Context, events []*event, jobs []*job) (locked int, err error) {
	err = s.do(ctx, durable, func(m *reference) error {
		for _, e := range events {
			m.releaseEvent(e)
		}
		for _, j := range jobs {
			m.releaseDelivery(j.ID, j.lease.claim)
		}
		return nil
	})
	return 0, err
}

func (s *simStore) hastenEvents(ctx context.Context, typ string, lower, upper int64, most int) (last int64, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		last = m.hasten(typ, lower, upper, most)
		return nil
	})
	return last, err
}

func (s *simStore) readFlight(ctx context.Context) (highest int64, inFlight map[string]struct{}, err error) {
	inFlight = map[string]struct{}{}
	err = s.do(ctx, forgetable, func(*reference) error {
		highest = s.db.highest
		for seq := range s.db.writers {
			inFlight[fmt.Sprint("3/", seq)] = struct{}{}
		}
		return nil
	})
	return highest, inFlight, err
}

func (s *simStore) raiseFloor(ctx context.Context, upTo int64) (floor int64, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		top := min(upTo, s.db.highest)
		for _, e := range m.ordered() {
			if !e.hidden && e.seq > s.db.floor && e.seq <= upTo && !e.processed && !e.lease.Equal(forever) {
				top = min(top, e.seq-1)
				break
			}
		}
		if top > s.db.floor {
			s.db.floor, floor = top, top
		}
		return nil
	})
	return floor, err
}

// What no simulated event needs.

var errNotSimulated = errors.New("simulated: nothing of the kind is there")

func (s *simStore) recordSQL(context.Context, *job, dispatch.SQL, SQLConfig) (bool, error) {
	return false, errNotSimulated
}
func (s *simStore) prune(context.Context, *pruner, int64) (pruned, error) { return pruned{}, nil }
func (s *simStore) uncountSMS(context.Context, string, SMSLimits) error   { return errNotSimulated }
func (s *simStore) countSMS(context.Context, string, SMSLimits) (string, error) {
	return "", errNotSimulated
}
