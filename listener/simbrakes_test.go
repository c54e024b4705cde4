package listener

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// simBrake is a row of outbox.brakes.
type simBrake struct {
	failures              int
	since, until, probeAt time.Time
}

func (s *simStore) onRead(b *brakes) { s.brakes = b }

// braked is list_brakes.sql. The caller holds db.mu.
func (db *simDB) braked() (rows []onBrake) {
	for name, b := range db.brakes {
		rows = append(rows, onBrake{name, time.Until(b.until), time.Until(b.probeAt)})
	}
	return rows
}

// readAlong is that of store.
func (s *simStore) readAlong() (ask, done func()) {
	if s.brakes == nil || !s.brakes.old() {
		return func() {}, func() {}
	}
	sent := time.Now()
	var rows []onBrake
	return func() { rows = s.db.braked() }, func() { s.brakes.read(sent, rows) }
}

func (s *simStore) readBrakes(ctx context.Context) (rows []onBrake, err error) {
	err = s.do(ctx, forgetable, func(*reference) error {
		rows = s.db.braked()
		return nil
	})
	return rows, err
}

func (s *simStore) changeBrakes(ctx context.Context, n news) (fresh []string, over map[string]time.Duration, rows []onBrake, err error) {
	over = map[string]time.Duration{}
	err = s.do(ctx, forgetable, func(*reference) error {
		now := time.Now()
		for name, p := range n.puts {
			b := s.db.brakes[name]
			wait := max(time.Until(p.until), 0)
			if b == nil {
				b = &simBrake{since: now, probeAt: now.Add(max(wait, time.Second))}
				s.db.brakes[name] = b
				fresh = append(fresh, name)
			}
			b.failures += p.failures
			b.until = latest(b.until, now.Add(wait))
			b.probeAt = latest(b.probeAt, now.Add(wait))
		}
		for _, name := range n.ends {
			if b := s.db.brakes[name]; b != nil && !b.until.After(now) {
				over[name] = now.Sub(b.since)
				delete(s.db.brakes, name)
			}
		}
		for name, b := range s.db.brakes {
			if n.stale && now.Sub(latest(b.until, b.probeAt)) > time.Hour {
				delete(s.db.brakes, name)
			}
		}
		rows = s.db.braked()
		return nil
	})
	return fresh, over, rows, err
}

func (s *simStore) askProbe(ctx context.Context, destination string) (a asked, err error) {
	err = s.do(ctx, forgetable, func(*reference) error {
		b, now := s.db.brakes[destination], time.Now()
		if b == nil {
			a.gone = true
			return nil
		}
		if a.granted = !b.probeAt.After(now) && !b.until.After(now); a.granted {
			b.probeAt = now.Add(time.Second)
		}
		a.until, a.probe = b.until.Sub(now), b.probeAt.Sub(now)
		return nil
	})
	return a, err
}

// resumeBraked is resume_braked.sql, but for the pace: here few wait.
func (s *simStore) resumeBraked(ctx context.Context, reason string, _ int, _ time.Duration) (r resumed, err error) {
	if err = s.do(ctx, forgetable, func(*reference) error { r.alone = !s.db.chance(0.1); return nil }); !r.alone || err != nil {
		return r, err // another listener does it
	}
	n, err := s.resume(ctx, []string{reason})
	r.n = int(n)
	return r, err
}

// resume is resume_deliveries.sql.
func (s *simStore) resume(ctx context.Context, reasons []string) (n int64, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		for _, r := range m.rows {
			if m.ahead(r.due) && !r.state.Terminal() && slices.Contains(reasons, r.lastError) && (r.claim == uuid.Nil || r.claim.Version() == 5) {
				r.due = m.now()
				n++
			}
		}
		return nil
	})
	return n, err
}

func (s *simStore) reserve(context.Context, []wish, bool) (map[string]grant, error) {
	return nil, errNotSimulated
}
