package listener_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// faulty is a slog.Handler that panics once, at the first line with its
// message: a fault in what goes on around an attempt. It counts the lines that
// tell of a panic.
type faulty struct {
	message string

	mu    sync.Mutex
	done  bool
	tales int
}

func (f *faulty) Enabled(context.Context, slog.Level) bool { return true }
func (f *faulty) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f *faulty) WithGroup(string) slog.Handler            { return f }

func (f *faulty) Handle(_ context.Context, r slog.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Message == f.message && !f.done {
		f.done = true
		panic("the log is broken")
	}
	if r.Message == "panic; what was worked on is left to its lease" {
		f.tales++
	}
	return nil
}

// count returns how many panics were told of.
func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tales
}

// TestPanicLeavesOneDelivery: a panic of the listener's own costs the delivery
// that it was working on a lease, and nobody else anything: what came of the
// others is on record once, and what was left is taken up again.
func TestPanicLeavesOneDelivery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		at     string // the log line that panics
		policy dispatch.Policy
		steps  []string // "bad" is the one whose sender panics at first
		state  string   // of "bad" in the end
		sends  int      // of "bad"
	}{
		{"after the outcome", "attempt", plain, []string{"good", "better"}, "", 0},
		{"after the only outcome", "attempt", plain, []string{"good"}, "", 0},
		{"before the only outcome", "sender panicked", plain, []string{"bad"}, "delivered", 2},
		{"before the only outcome, announced", "sender panicked", careful, []string{"bad"}, "held", 1},
		{"in the first of three", "sender panicked", plain, []string{"bad", "good", "better"}, "delivered", 2},
		{"in the first of three, announced", "sender panicked", careful, []string{"bad", "good", "better"}, "held", 1},
		{"in the last of three", "sender panicked", plain, []string{"good", "better", "bad"}, "delivered", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			var once sync.Once
			providers := map[string]*provider{"good": newProvider(nil), "better": newProvider(nil), "neighbour": newProvider(nil)}
			providers["bad"] = newProvider(func(*dispatch.Delivery) error {
				once.Do(func() { panic("no") })
				return nil
			})
			for name, p := range providers {
				d.Register(dispatch.Channel(name), p, tt.policy)
			}
			plan := func(typ string, steps ...string) {
				d.Route(typ, func(_ context.Context, ev dispatch.Event) (msgs []dispatch.Message) {
					for _, s := range steps {
						msgs = append(msgs, dispatch.Message{Route: "test", Step: s, Channel: dispatch.Channel(s), Recipient: "+15005550006", Content: ev.Payload})
					}
					return msgs
				})
			}
			plan("event", tt.steps...)
			plan("neighbour", "neighbour")
			log := &faulty{message: tt.at}
			// One worker: whatever a panic keeps is missed.
			l := newListener(t, db, d, func(c *listener.Config) {
				c.Workers, c.Lease, c.PollInterval, c.Log = 1, 2*time.Second, 200*time.Millisecond, slog.New(log)
			})
			id := insert(t, db, "event", `{}`)
			start(t, l)
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return log.count() == 1, "no panic yet" })
			insert(t, db, "neighbour", `{}`)
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				done := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where finished_at is not null or state = 'held'`)
				held := l.Health().Held
				return done == len(tt.steps)+1 && held == 0, fmt.Sprintf("%d done, %d held by the listener", done, held)
			})
			for _, s := range tt.steps {
				state, sends := "delivered", 1
				if s == "bad" {
					state, sends = tt.state, tt.sends
				}
				got := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries where event_id = $1 and step = $2`, id, s)
				if n := providers[s].count(); got != state || n != sends {
					t.Errorf("%s: %s, sent %d times; want %s, %d", s, got, n, state, sends)
				}
			}
			if n := providers["neighbour"].count(); n != 1 {
				t.Errorf("the neighbour was sent %d times", n)
			}
			if n := log.count(); n != 1 {
				t.Errorf("told of %d panics, want 1", n)
			}
		})
	}
}
