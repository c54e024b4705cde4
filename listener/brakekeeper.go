package listener

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// brakesEvery is how old a reading of the brakes may be where a listener holds
// something. It looks twice as often whether it is, so that whatever one of them finds
// out all know within a second.
const brakesEvery = 500 * time.Millisecond

// onBrake is a row of outbox.brakes, as the database's clock has it.
type onBrake struct {
	destination  string
	until, probe time.Duration // from now; below 0 where it is past
}

// stale reports whether nobody wanted to pass it for long.
func (b onBrake) stale() bool { return max(b.until, b.probe) < -brakeStale }

// read takes in what a reading brought that was sent off at that moment. What we
// found out meanwhile is newer.
func (bs *brakes) read(sent time.Time, rows []onBrake) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if sent.Before(bs.asked) {
		return
	}
	bs.asked = sent
	now := time.Now()
	there := map[string]bool{}
	for _, row := range rows {
		there[row.destination] = true
		if at, ok := bs.gone[row.destination]; ok && sent.Before(at) {
			continue
		}
		b := bs.on[row.destination]
		if b == nil {
			b = &brake{}
			bs.on[row.destination] = b
		}
		b.noted = latest(b.noted, sent)
		// How long it lasts was computed after the question was sent off, and nothing may
		// leave before that is over; when one may ask is for the database to say again.
		b.until, b.probeAt = latest(now.Add(row.until), bs.puts[row.destination].until), sent.Add(row.probe)
	}
	for name, b := range bs.on {
		if _, pending := bs.puts[name]; !there[name] && !pending && b.noted.Before(sent) {
			bs.drop(name, now)
		}
	}
	bs.stale = bs.stale || slices.ContainsFunc(rows, onBrake.stale)
	for name, at := range bs.gone {
		if at.Before(sent) {
			delete(bs.gone, name)
		}
	}
	bs.some.Store(len(bs.on) > 0)
}

// released notes that destination is not braked any more.
func (bs *brakes) released(destination string, now time.Time) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if _, pending := bs.puts[destination]; !pending && bs.on[destination] != nil {
		bs.drop(destination, now)
		bs.some.Store(len(bs.on) > 0)
	}
}

// drop forgets a brake, and has what waited for it made due.
func (bs *brakes) drop(destination string, now time.Time) {
	delete(bs.on, destination)
	delete(bs.ends, destination)
	bs.gone[destination] = now
	if r := bs.records[destination]; r != nil { // whoever heard it, it answers
		r.failed, r.deferred = 0, 0
	}
	bs.over = append(bs.over, destination)
	signal(bs.free)
}

// old reports whether the last reading is so old that another is due.
func (bs *brakes) old() bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return time.Since(bs.asked) >= brakesEvery
}

// news is what the database is to be told of brakes.
type news struct {
	puts     map[string]put
	ends     []string      // to be released
	stale    bool          // some are to be forgotten
	patience time.Duration // how long it waits for a row that somebody has locked
}

func (n news) none() bool { return len(n.puts)+len(n.ends) == 0 && !n.stale }

// each is n, one by one.
func (n news) each() (all []news) {
	for name, p := range n.puts {
		all = append(all, news{puts: map[string]put{name: p}, patience: n.patience})
	}
	for _, name := range n.ends {
		all = append(all, news{ends: []string{name}, patience: n.patience})
	}
	if n.stale {
		all = append(all, news{stale: true, patience: n.patience})
	}
	return all
}

// news takes what the database is to be told.
func (bs *brakes) news() news {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	n := news{puts: maps.Clone(bs.puts), ends: slices.Sorted(maps.Keys(bs.ends)), stale: bs.stale, patience: tellPatience}
	if bs.slow > 0 {
		n.patience = tellSoon // what was given up may be under way still, and has the row until it is done
	}
	return n
}

// told notes that the database has some of what news returned.
func (bs *brakes) told(n news) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.slow = 0
	bs.stale = bs.stale && !n.stale
	now := time.Now() // a reading that was sent off before may not have seen it
	for name, p := range n.puts {
		left := bs.puts[name]
		for _, waiting := range p.waiting {
			close(waiting)
		}
		left.waiting = left.waiting[len(p.waiting):]
		if left.failures -= p.failures; left.failures <= 0 {
			delete(bs.puts, name)
		} else {
			bs.puts[name] = left
		}
		if b := bs.on[name]; b != nil {
			b.noted = now
		}
	}
	for _, name := range n.ends {
		delete(bs.ends, name)
	}
}

// remind has the database told that old brakes are to be forgotten, which nobody waits for.
func (bs *brakes) remind() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.stale {
		signal(bs.wake)
	}
}

// quiet reports whether none is on, and nothing is left to do for those that were.
func (bs *brakes) quiet() bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return !bs.some.Load() && len(bs.over) == 0 && !bs.stale
}

// within says how long the next try to tell the database may take: tellSoon, and twice as long after each that took too
// long. So a connection that was cut off without a word is not waited for, and a database that is slow has its time.
func (bs *brakes) within() time.Duration {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return min(tellSoon<<bs.slow, dbTimeout)
}

// tooSlow notes that one took too long. The next may follow at once, with what has come since.
func (bs *brakes) tooSlow() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.slow = min(bs.slow+1, 8)
	signal(bs.wake)
}

// ended takes what was released.
func (bs *brakes) ended() (destinations []string) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	destinations, bs.over = bs.over, nil
	return destinations
}

// keepBrakes asks the database what attempts of others said about destinations, and has what waited for
// those that answer made due, until ctx ends. A listener that holds nothing leaves that
// to its sweeps. What its own attempts say is told by a hand of its own, since outcomes wait for it.
func (l *Listener) keepBrakes(ctx context.Context) {
	through, cancel := throughStop(ctx)
	defer cancel()
	var hands sync.WaitGroup
	hands.Go(func() { l.keepTelling(ctx, through) })
	round := make(chan struct{}, 1)
	hands.Go(func() {
		for comeRound(ctx, brakesEvery/2, l.leases.none() && l.brakes.quiet(), l.leases.forBrakes) {
			signal(round)
		}
	})
	for {
		select {
		case <-ctx.Done():
			hands.Wait()
			l.resumeBraked(through, false)
			l.resumeRest(context.WithoutCancel(ctx))
			return
		case <-l.brakes.free:
		case <-round:
		case <-l.recovery.due():
			l.resumeBraked(through, false)
			continue
		}
		if l.queue.holds() > 0 && l.brakes.old() {
			l.readBrakes(through)
		}
		l.brakes.remind()
		l.resumeBraked(through, false)
	}
}

// keepTelling tells the database what attempts say about destinations, until ctx ends, and once more then.
func (l *Listener) keepTelling(ctx, through context.Context) {
	for {
		var again <-chan time.Time // nothing is asked where there is nothing to tell
		if !l.tellBrakes(through) {
			again = time.After(brakesEvery / 2)
		}
		select {
		case <-ctx.Done():
			l.tellBrakes(through)
			return
		case <-l.brakes.wake:
		case <-again:
		}
	}
}

// Outcomes wait for what the database is told of brakes: so it has tellSoon for it at first, and a row that somebody has
// locked is waited for no longer than tellPatience.
const (
	tellSoon     = pauseFirst / 2
	tellPatience = 200 * time.Millisecond
)

// tellBrakes has put and released what is to be, and reports whether nothing of that is left.
func (l *Listener) tellBrakes(ctx context.Context) (told bool) {
	n := l.brakes.news()
	if n.none() {
		return true
	}
	soon, cancel := context.WithTimeout(ctx, l.brakes.within())
	defer cancel()
	err := l.tell(soon, n)
	if all := n.each(); isLocked(err) && len(all) > 1 { // the others do not wait for the one
		err = nil
		for _, one := range all {
			err = errors.Join(err, l.tell(ctx, one))
		}
	}
	if err == nil {
		return true
	}
	if soon.Err() != nil && ctx.Err() == nil {
		l.brakes.tooSlow()
	}
	l.sparse.warn("brakes not on record; trying again", err)
	return false
}

// tell has brakes put and released.
func (l *Listener) tell(ctx context.Context, n news) error {
	sent := time.Now()
	fresh, over, rows, err := l.store.changeBrakes(ctx, n)
	if err != nil {
		return err
	}
	l.brakes.told(n)
	l.brakes.read(sent, rows)
	for name, on := range over {
		l.log.Info("brake off: the destination answers", "destination", name, "after", on.Round(time.Millisecond))
	}
	for _, name := range fresh {
		p := n.puts[name]
		l.log.Warn("brake on: nothing is sent there until one that tries is answered", "destination", name,
			"reason", p.reason, "for", max(time.Until(p.until), 0).Round(time.Millisecond))
	}
	return nil
}

func (l *Listener) readBrakes(ctx context.Context) {
	sent := time.Now()
	rows, err := l.store.readBrakes(ctx)
	if err != nil {
		l.sparse.warn("brakes not read", err)
		return
	}
	l.brakes.read(sent, rows)
}

// asked is the answer to one that would try a braked destination.
type asked struct {
	gone         bool // it is not braked
	granted      bool
	until, probe time.Duration // where it is not: until something may be sent, and until the next may ask
}

// askProbe asks whether one may be sent to destination.
func (s *store) askProbe(ctx context.Context, destination string) (a asked, err error) {
	var until, probe float64
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlAskProbe, destination).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&a.granted, &until, &probe)
			if errors.Is(err, pgx.ErrNoRows) {
				a.gone, err = true, nil
			}
			return err
		})
	})
	if err != nil {
		return a, fmt.Errorf("ask for a probe: %w", err)
	}
	a.until, a.probe = fromSeconds(until), fromSeconds(probe)
	return a, nil
}

// changeBrakes puts and releases, and returns which are new, which are over, with how
// long they were on, and those that there are then.
func (s *store) changeBrakes(ctx context.Context, n news) (fresh []string, over map[string]time.Duration, now []onBrake, err error) {
	over = map[string]time.Duration{}
	var names, reasons []string
	var failures []int64
	var waits []float64
	for name, p := range n.puts {
		names, reasons, failures = append(names, name), append(reasons, p.reason), append(failures, int64(p.failures))
		waits = append(waits, max(time.Until(p.until).Seconds(), 0))
	}
	commit := forgetable
	if len(names) > 0 {
		commit = durable // as the record of what it follows from; a crash must not leave that alone
	}
	err = s.tx(ctx, commit, func(b *pgx.Batch) {
		b.Queue("select set_config('lock_timeout', $1, true)", fmt.Sprint(n.patience.Milliseconds()))
		if len(names) > 0 {
			b.Queue(sqlPutBrakes, names, reasons, failures, waits).Query(func(rows pgx.Rows) error {
				var name string
				var isNew bool
				_, err := pgx.ForEachRow(rows, []any{&name, &isNew}, func() error {
					if isNew {
						fresh = append(fresh, name)
					}
					return nil
				})
				return err
			})
		}
		if len(n.ends) > 0 {
			b.Queue(sqlEndBrakes, n.ends).Query(func(rows pgx.Rows) error {
				var name string
				var secs float64
				_, err := pgx.ForEachRow(rows, []any{&name, &secs}, func() error { over[name] = fromSeconds(secs); return nil })
				return err
			})
		}
		if n.stale {
			b.Queue(sqlForgetBrakes)
		}
		queueBrakes(b, &now)
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("change brakes: %w", err)
	}
	return fresh, over, now, nil
}

// readBrakes asks which destinations are braked.
func (s *store) readBrakes(ctx context.Context) (rows []onBrake, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) { queueBrakes(b, &rows) })
	if err != nil {
		return nil, fmt.Errorf("read brakes: %w", err)
	}
	return rows, nil
}

// queueBrakes asks which destinations are braked in the transaction of b.
func queueBrakes(b *pgx.Batch, into *[]onBrake) {
	b.Queue(sqlListBrakes).Query(func(rows pgx.Rows) error {
		var name string
		var until, probe float64
		_, err := pgx.ForEachRow(rows, []any{&name, &until, &probe}, func() error {
			*into = append(*into, onBrake{name, fromSeconds(until), fromSeconds(probe)})
			return nil
		})
		return err
	})
}

// readAlong asks for the brakes in the transaction of b, where what is known of
// them is old. What it returns is to be called when that has succeeded.
func (s *store) readAlong(b *pgx.Batch) (done func()) {
	if s.brakes == nil || !s.brakes.old() {
		return func() {}
	}
	sent := time.Now()
	var rows []onBrake
	queueBrakes(b, &rows)
	return func() { s.brakes.read(sent, rows) }
}

// fromSeconds is a Duration of so many seconds, which never overflows.
func fromSeconds(s float64) time.Duration {
	most := longestWait.Seconds()
	return time.Duration(min(max(s, -most), most) * float64(time.Second))
}
