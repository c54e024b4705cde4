package listener

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// marks are the bounds from which claims look. Numbers are drawn before their
// transactions commit, so that a lower one may become visible after a higher
// one; each mark stands for how sure we are that this cannot happen below it.
//
//	floor <= mark <= cursor
//
// Nothing is left to claim at or below floor, for anybody, for ever: it is
// kept in outbox.state. Between floor and mark everything is visible, and was
// claimed once; only leases that ran out are found there. Between mark and
// cursor a late commit may still appear. Above cursor nothing was looked at.
type marks struct {
	mu      sync.Mutex
	floor   int64
	mark    int64
	cursor  int64
	settled int64 // every number up to here is visible or rolled back

	highest   int64               // the highest number that was known to be handed out, when it was last asked
	candidate int64               // the next value of settled, once
	inFlight  map[string]struct{} // none of these writes any more

	era int // how often they were forgotten

	reading sync.Mutex // is held from a reading until it is noted

	moved chan struct{} // readable when the cursor went on, or all was forgotten; nil: nobody waits for it
}

const top = math.MaxInt64

// looked notes the answer to a claim above lower, up to upper: the highest number in it,
// whether it was full, and what was settled before it was asked.
func (m *marks) looked(lower, upper, highest int64, full bool, settledBefore int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.cursor
	m.cursor = max(m.cursor, highest)
	if !full {
		// Nothing is left between the two that was visible; what is settled
		// was visible.
		sure := min(settledBefore, upper)
		m.cursor = max(m.cursor, sure)
		if upper < top {
			m.cursor = max(m.cursor, upper)
		}
		if lower <= m.mark {
			m.mark = max(m.mark, sure)
		}
	}
	if m.cursor > before {
		signal(m.moved)
	}
}

func (m *marks) get() (floor, mark, cursor, settled int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.floor, m.mark, m.cursor, m.settled
}

// seen returns the highest number that is known to have been handed out, and how often the
// marks were forgotten so far.
func (m *marks) seen() (highest int64, era int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.highest, m.cursor), m.era
}

// before is what a reading is held against that is begun now.
func (m *marks) before() (settled int64, era int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled, m.era
}

// reset starts from the floor that the database knows.
func (m *marks) reset(floor int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(floor)
}

func (m *marks) forget(floor int64) {
	m.floor, m.mark, m.cursor, m.settled = floor, floor, floor, floor
	m.highest, m.candidate, m.inFlight = floor, 0, nil
	m.era++
	signal(m.moved)
}

// raise notes a floor that the database has reached: nobody needs to look
// below it again.
func (m *marks) raise(floor int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.floor = max(m.floor, floor)
	m.mark = max(m.mark, floor)
	m.cursor = max(m.cursor, floor)
	m.settled = max(m.settled, floor)
}

// preparedPrefix begins the virtual transaction of a prepared transaction that
// has outlived the session, or the server, in which it was prepared.
const preparedPrefix = "-1/"

// observe takes one reading: the highest number handed out, and after it the
// transactions in flight. A number up to an earlier reading that is not
// visible now belongs to one of those that were in flight then; once all of
// them have ended, the reading is settled. It reports whether the marks go on by it: not
// where they were forgotten since it was begun, in era, and not where the sequence
// went back behind what was settled then, as this is another server then than the one we know the marks of.
func (m *marks) observe(era int, settled, highest int64, inFlight map[string]struct{}) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if era != m.era {
		return false
	}
	if highest < max(settled, m.candidate) {
		m.forget(0)
		m.highest = highest
		return false
	}
	m.highest = highest
	for t := range m.inFlight {
		if _, ok := inFlight[t]; ok {
			return true
		}
	}
	// A prepared transaction changes its name when the server restarts. One
	// that was not seen before may be any of those we waited for.
	for t := range inFlight {
		if _, ok := m.inFlight[t]; !ok && strings.HasPrefix(t, preparedPrefix) && m.inFlight != nil {
			m.candidate, m.inFlight = highest, inFlight
			return true
		}
	}
	m.settled = max(m.settled, m.candidate)
	m.candidate, m.inFlight = highest, inFlight
	return true
}

// readFlight reads what observe wants, in that order.
func (s *store) readFlight(ctx context.Context) (highest int64, inFlight map[string]struct{}, err error) {
	inFlight = map[string]struct{}{}
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlSequence).QueryRow(func(row pgx.Row) error { return row.Scan(&highest) })
		b.Queue(sqlInFlight).Query(func(rows pgx.Rows) error {
			return each(rows, func(t string) { inFlight[t] = struct{}{} })
		})
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read transactions in flight: %w", err)
	}
	return highest, inFlight, nil
}

// raiseFloor moves the floor up to what is done, at most to upTo, and returns
// where it is then; 0 when it did not move.
func (s *store) raiseFloor(ctx context.Context, upTo int64) (floor int64, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlAdvanceFloor, upTo).Query(func(rows pgx.Rows) error {
			return each(rows, func(f int64) { floor = f })
		})
	})
	return floor, err
}

// Intervals of the marks' upkeep while events pass.
const (
	observeEvery = 250 * time.Millisecond
	floorEvery   = time.Second
)

// floorStep is how far the floor is raised at once, at most: what was processed below an
// event that held it for long is walked over once more.
const floorStep = 20 * walkStep

// observe takes a reading, and reports whether the marks go on by it. Not where somebody else is at
// it: by an older one after a newer one, what began between them would be settled while it writes.
func (l *Listener) observe(ctx context.Context) bool {
	if !l.marks.reading.TryLock() {
		return false
	}
	defer l.marks.reading.Unlock()
	settled, era := l.marks.before()
	highest, inFlight, err := l.store.readFlight(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.sparse.warn("marks not kept", err)
		}
		return false
	}
	return l.marks.observe(era, settled, highest, inFlight)
}

// keepMarks moves the marks along while there is something to move. It stops
// asking when everything that was handed out is settled and done.
func (l *Listener) keepMarks(ctx context.Context) {
	var lastFloor time.Time
	var lastSeen int64
	idle := func() bool {
		floor, _, cursor, settled := l.marks.get()
		return cursor == lastSeen && settled >= cursor && floor >= cursor
	}
	for comeRound(ctx, observeEvery, idle(), l.marks.moved) {
		if idle() {
			continue
		}
		floor, _, cursor, _ := l.marks.get()
		lastSeen = cursor
		if !l.observe(ctx) {
			continue
		}
		if _, _, _, settled := l.marks.get(); settled > floor && time.Since(lastFloor) >= floorEvery {
			lastFloor = time.Now()
			floor, err := l.store.raiseFloor(ctx, min(settled, floor+floorStep))
			if err != nil {
				if ctx.Err() == nil {
					l.sparse.warn("floor not raised", err)
				}
				continue
			}
			l.marks.raise(floor)
		}
	}
}
