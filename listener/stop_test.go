package listener_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// leased counts the events that somebody holds and is not done with.
func leased(t testing.TB, db *pgtest.DB) int {
	t.Helper()
	return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events
		where processed_at is null and lease_until > now() and lease_until <> 'infinity'`)
}

// TestStopWhileClaimingLeavesNothingLeased: wherever the stop meets a claim,
// what it brought is delivered or given back.
func TestStopWhileClaimingLeavesNothingLeased(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	for round := range 8 {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 2000)`)
		l := newListener(t, db, d, func(c *listener.Config) { c.BatchSize = 50 })
		before := p.count()
		stop := start(t, l)
		for p.count()-before <= 30*round { // another moment of the work each time
			<-p.news
		}
		stop()
		if n := leased(t, db); n != 0 {
			t.Errorf("round %d: %d events stayed leased", round, n)
		}
	}
}

// TestDrainOutsideRun: before Run and after it Drain claims nothing, since
// nobody would deliver it.
func TestDrainOutsideRun(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, nil)
	drain := func(when string) {
		t.Helper()
		stats, err := l.Drain(t.Context(), 0)
		if !errors.Is(err, listener.ErrNotRunning) || stats != (listener.Stats{}) {
			t.Errorf("%s Run: Drain = %+v, %v; want %v", when, stats, err, listener.ErrNotRunning)
		}
		if n := leased(t, db); n != 0 {
			t.Errorf("%s Run: %d leased", when, n)
		}
	}
	id := insert(t, db, "greeting", `{}`)
	drain("before")
	stop := start(t, l)
	listening(t, l)
	processed(t, db, 5*time.Second)
	stop()
	insert(t, db, "greeting", `{}`)
	drain("after")
	if got := p.byEvent(); len(got) != 1 || got[id] != 1 {
		t.Errorf("sent %v, want %s once", got, id)
	}
}

// TestStopBesideDrain: a stop does not wait for a Drain that has much to do;
// Drain returns what was finished, and nothing stays leased.
func TestStopBesideDrain(t *testing.T) {
	t.Parallel()
	const events = 20_000
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(*dispatch.Delivery) error { pause(10 * time.Millisecond); return nil }) // 12 s in all
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = time.Minute; c.Lease = time.Minute })
	stop := start(t, l)
	listening(t, l)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, $1::int)`, events)
	var stats listener.Stats
	done := make(chan error, 1)
	go func() {
		var err error
		stats, err = l.Drain(t.Context(), 0)
		done <- err
	}()
	for p.count() < 200 {
		<-p.news
	}
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if err := <-done; err != nil {
		t.Errorf("Drain: %v", err)
	}
	if n := p.count(); n >= events || stats.Total > n || stats.Total != stats.Processed {
		t.Errorf("Drain = %+v of %d sent", stats, n)
	}
	if n := leased(t, db); n != 0 {
		t.Errorf("%d stayed leased", n)
	}
}

// TestStopBesideDeafHandler: a handler that does not look at its context keeps
// Run for the grace period and what records may take, not for ever.
func TestStopBesideDeafHandler(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	entered, over := make(chan struct{}, 1), make(chan struct{})
	d.Handle("greeting", dispatch.HandlerFunc(func(context.Context, dispatch.Event) error {
		entered <- struct{}{}
		<-over
		return nil
	}))
	l := newListener(t, db, d, func(c *listener.Config) { c.ShutdownGrace = 100 * time.Millisecond })
	insert(t, db, "greeting", `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer close(over)
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("still running 10 s after the stop, %d held", l.Health().Held)
	}
}
