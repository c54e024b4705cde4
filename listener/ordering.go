package listener

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Deliveries with an ordering key stand in the line of that name: see "In order" in
// docs/design.md. Whoever puts one there, or ends one, has the turn passed right after; an
// operator, who is no listener, tells those that there are.

// lines are those of which it is not known yet that the turn was passed.
type lines struct {
	mu      sync.Mutex
	pending map[string]struct{}
	news    chan struct{} // pending was empty, and is not any more
	slow    time.Time     // until when recorders leave it to keepLines
	told    chan struct{} // somebody has changed who stands in a line: see tell_lines.sql
}

const (
	turnsMost     = 200 // lines of one statement: each is a lock, and the server has some 64 for each connection
	turnAgain     = 2 * time.Millisecond
	turnAgainMost = 250 * time.Millisecond
	turnsSoon     = 3 * time.Second / 2 // longer than a lock may take (lock_timeout of settings); how long a recorder waits for the turn to be passed
	turnsSlow     = 10 * time.Second    // and how long it does not try once that was too short
	healSeldom    = 5 * time.Minute     // where no route has an order: others may have, or had
)

// ordered reports whether j waits for its turn before it is sent. What waits for a
// step that is for later is as that is: outside of the order.
func (j *job) ordered() bool { return j.terms().Ordering != "" && !j.afterLater }

// linesOf are the lines in which entries change something.
func linesOf(entries []entry) []string {
	var out []string
	add := func(k string) {
		if k != "" {
			out = append(out, clean(k))
		}
	}
	note := func(j *job) {
		add(j.line)
		if k := j.terms().Ordering; k != j.line { // it is planned otherwise today
			add(k)
		}
	}
	for _, en := range entries {
		if j := en.job; j != nil && (j.outcome.State.Terminal() || j.mayBeSuperseded(j.outcome.State)) {
			note(j)
		}
		for _, r := range en.rows {
			note(r.job)
		}
	}
	return out
}

// passTurns has the turn passed in lines. Where there are none it asks nothing, also
// while other lines wait to be asked again: see keepLines.
func (r *recorder) passTurns(ctx context.Context, lines []string) {
	if r.pass != nil && len(lines) > 0 {
		r.pass(ctx, lines)
	}
}

// passTurns passes the turn in lines, and in those where that is still to be done.
// Where it cannot be now, it is tried again soon. Without any line it does nothing.
func (l *Listener) passTurns(ctx context.Context, names []string) {
	for part := range slices.Chunk(l.lines.take(names), turnsMost) {
		again, err := l.store.passTurns(ctx, part, l.orderedTypes())
		if err != nil {
			again = part
			if ctx.Err() == nil {
				l.sparse.warn("turn not passed; trying again", err)
			}
		}
		l.lines.retry(again)
	}
}

// passTurnsSoon is passTurns for those that others wait for. Where much that is processed lies
// between an event that is not planned and the lines, that takes long: then it is left to keepLines.
func (l *Listener) passTurnsSoon(ctx context.Context, names []string) {
	if l.lines.areSlow() {
		l.lines.retry(names)
		return
	}
	soon, cancel := context.WithTimeout(ctx, turnsSoon)
	defer cancel()
	if l.passTurns(soon, names); soon.Err() != nil && ctx.Err() == nil {
		l.lines.mu.Lock()
		l.lines.slow = time.Now().Add(turnsSlow)
		l.lines.mu.Unlock()
	}
}

func (n *lines) areSlow() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Before(n.slow)
}

// take adds to names those in which the turn is still to be passed, as far as they go into
// one statement. They are pending no more before it is asked: what another one finds meanwhile
// to be asked again is not settled by an answer that is older.
func (n *lines) take(names []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.pending {
		if len(names) >= turnsMost {
			break
		}
		names = append(names, k)
		delete(n.pending, k)
	}
	return names
}

// retry notes that the turn is still to be passed in again.
func (n *lines) retry(again []string) {
	if len(again) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		n.pending = map[string]struct{}{}
		signal(n.news)
	}
	for _, k := range again {
		n.pending[k] = struct{}{}
	}
}

func (n *lines) left() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pending)
}

// keepLines tries again where the turn could not be passed, and with each sweep looks
// for lines that nobody sees to, until ctx ends.
func (l *Listener) keepLines(ctx context.Context) {
	delay, sweep := turnAgain, time.Now()
	for ctx.Err() == nil {
		select {
		case <-l.lines.told:
			sweep = time.Time{}
		default:
		}
		if !time.Now().Before(sweep) {
			l.healLines(ctx)
			if sweep = l.nextSweep(); len(l.cfg.Dispatcher.Ordered()) == 0 {
				sweep = time.Now().Add(healSeldom)
			}
		}
		before := l.lines.left()
		if before == 0 {
			delay = turnAgain
			timer := time.NewTimer(time.Until(sweep))
			select {
			case <-ctx.Done():
			case <-l.lines.news:
			case <-l.lines.told:
				sweep = time.Time{}
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		wait(ctx, delay)
		l.passTurns(ctx, nil)
		if l.lines.left() < before {
			delay = turnAgain
		} else {
			delay = min(2*delay, turnAgainMost)
		}
	}
}

// healLines passes the turn where the one who was to do it has ended, and where
// a person changed something by hand.
func (l *Listener) healLines(ctx context.Context) {
	for after := ""; ctx.Err() == nil; {
		stalled, last, err := l.store.stalledLines(ctx, after, turnsMost)
		if err != nil {
			if ctx.Err() == nil {
				l.sparse.warn("lines not looked at", err)
			}
			return
		}
		if len(stalled) > 0 {
			l.passTurns(ctx, stalled)
		}
		if last == "" {
			return
		}
		after = last
	}
}

// orderedTypes are the types of events that may come into a line, as patterns of
// LIKE; nil for none, which nothing is like.
func (l *Listener) orderedTypes() []string {
	var out []string
	for _, typ := range l.cfg.Dispatcher.Ordered() {
		prefix, many := strings.CutSuffix(typ, "*")
		p := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix)
		if many {
			p += "%"
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// passTurns passes the turn in lines, of which some may be there more than once, and returns
// those in which it could not be passed now. A lost commit is made good by
// stalledLines, so that none is waited for.
func (s *store) passTurns(ctx context.Context, lines, types []string) (again []string, err error) {
	made := 0
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlLockLines, lines)
		b.Queue(sqlPassTurns, lines, types).Query(func(rows pgx.Rows) error {
			var line string
			var due int
			var more bool
			_, err := pgx.ForEachRow(rows, []any{&line, &due, &more}, func() error {
				made += due
				if more {
					again = append(again, line)
				}
				return nil
			})
			return err
		})
	})
	s.tellDue(err, made)
	if err != nil {
		return nil, fmt.Errorf("pass turns: %w", err)
	}
	return again, nil
}

// stalledLines returns which of the next lines after after, at most most of them,
// nobody has the turn of, and the last one that was looked at: "" where there are no
// more.
func (s *store) stalledLines(ctx context.Context, after string, most int) (stalled []string, last string, err error) {
	n := 0
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlStalledLines, after, most).Query(func(rows pgx.Rows) error {
			var line string
			var is bool
			_, err := pgx.ForEachRow(rows, []any{&line, &is}, func() error {
				n++
				if last = line; is {
					stalled = append(stalled, line)
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, "", fmt.Errorf("stalled lines: %w", err)
	}
	if n < most {
		last = ""
	}
	return stalled, last, nil
}
