package listener_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

var provided = dispatch.Policy{Provider: true}

// severalOn starts n listeners on one database that send events of type "a" to p, whose
// troubles are those of all, and of type "b" to other.
func severalOn(t *testing.T, n int, db *pgtest.DB, p, other dispatch.Sender) {
	t.Helper()
	for range n {
		d := dispatch.New()
		channel(d, "a", "braked", p, provided)
		channel(d, "b", "other", other, provided)
		l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 500 * time.Millisecond })
		start(t, l)
		listening(t, l)
	}
}

// TestBrakedTogether: one answer with Retry-After keeps all listeners from the
// provider, until one that tries is answered; what waited is not counted as
// attempted, and leaves at once then. Others are sent meanwhile. A listener that has not
// heard of it yet makes one attempt of its own.
func TestBrakedTogether(t *testing.T) {
	t.Parallel()
	const n, wish = 200, 5 * time.Second
	db := pgtest.New(t)
	var down atomic.Bool
	down.Store(true)
	p := newProvider(func(*dispatch.Delivery) error {
		if down.Load() {
			return &dispatch.Error{Kind: dispatch.Throttled, Status: 429, RetryAfter: wish, Err: errors.New("too many")}
		}
		return nil
	})
	other := newProvider(nil)
	severalOn(t, 3, db, p, other)

	insert(t, db, "a", `{}`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox.brakes`) == 1, "no brake"
	})
	braked := time.Now()
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select case when i % 10 = 0 then 'b' else 'a' end, '{}' from generate_series(1, $1::integer) as i`, n)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		waits := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where last_error = $1 and attempts = 0 and state = 'ready'`, listener.HeldBy("braked"))
		return other.count() == n/10 && waits >= n-n/10-2, fmt.Sprintf("%d others sent, %d wait", other.count(), waits)
	})
	down.Store(false)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		open := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
		return open == 0, fmt.Sprintf("%d open", open)
	})
	p.mu.Lock()
	at := slices.Clone(p.at)
	p.mu.Unlock()
	if extra := len(at) - (n - n/10 + 1); extra < 1 || extra > 3 {
		t.Errorf("%d calls for %d deliveries", len(at), n-n/10+1)
	}
	for _, one := range at[1:] {
		if after := one.Sub(at[0]); after > time.Second && after < wish {
			t.Errorf("a call %s after the provider asked for %s", after, wish)
		}
	}
	if took := at[len(at)-1].Sub(braked); took > wish+10*time.Second {
		t.Errorf("the last one left %s after the brake was on for %s", took, wish)
	}
	if left := pgtest.QueryVal[int](t, db, `select count(*) from outbox.brakes`); left != 0 {
		t.Errorf("%d brakes are left", left)
	}
}

// TestOneProbeASecond: while a provider does not answer, all listeners together
// try it once a second.
func TestOneProbeASecond(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(*dispatch.Delivery) error {
		return &dispatch.Error{Kind: dispatch.Down, Err: errors.New("no route")}
	})
	severalOn(t, 3, db, p, newProvider(nil))
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', '{}' from generate_series(1, 300)`)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		waits := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where last_error = $1`, listener.HeldBy("braked"))
		return waits > 250, fmt.Sprintf("%d wait", waits)
	})
	from := time.Now()
	first := p.count()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return p.count() >= first+4, fmt.Sprintf("%d calls", p.count())
	})
	// Four, a second apart; beside them may go what has its own retry due.
	if took := time.Since(from); took < 2500*time.Millisecond {
		t.Errorf("four probes within %s", took)
	}
	if tried := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where attempts > 0`); tried > 5*3+10 {
		t.Errorf("%d of 300 were attempted", tried)
	}
}

// TestForgottenBrake: one that nobody wanted to pass for long is gone with the next
// listener, and one with a past holds nothing back.
func TestForgottenBrake(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox.brakes (destination, reason, failures, until, probe_at) values
		('old', '', 1, now() - interval '2 hours', now() - interval '2 hours'), ('braked', '', 1, now() - interval '2 minutes', now() - interval '1 minute')`)
	p := newProvider(nil)
	severalOn(t, 1, db, p, p)
	insert(t, db, "a", `{}`)
	processed(t, db, 5*time.Second)
	if p.count() != 1 {
		t.Errorf("%d calls", p.count())
	}
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		left := pgtest.QueryVals[string](t, db, `select destination from outbox.brakes`)
		return len(left) == 0, fmt.Sprint(left)
	})
}

// TestOnceDoesNotWait: what a braked destination keeps back is put off, and whoever
// asked for it is not kept waiting.
func TestOnceDoesNotWait(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('braked', '', 1, now() + interval '1 hour', now() + interval '1 hour')`)
	p := newProvider(nil)
	d := dispatch.New()
	channel(d, "a", "braked", p, provided)
	ev := insert(t, db, "a", `{}`)
	begun := time.Now()
	stats, err := newListener(t, db, d, nil).Once(t.Context(), 0)
	if err != nil || stats != (listener.Stats{Total: 1, Skipped: 1}) || p.count() != 0 {
		t.Errorf("%+v, %v; %d calls", stats, err, p.count())
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if got := ledgerOf(t, db, ev); got != (ledger{"ready", 0, listener.HeldBy("braked"), true}) {
		t.Errorf("%+v", got)
	}
	if wait := pgtest.QueryVal[float64](t, db, `select extract(epoch from due_at - now())::float8 from outbox.deliveries`); wait < 3500 || wait > 3700 {
		t.Errorf("it is due in %f s, want an hour", wait)
	}
}
