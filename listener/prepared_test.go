package listener_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestPreparedTransactionOverRestart: the event of a prepared transaction
// arrives once, even if the server restarts before the commit while other
// events pass.
func TestPreparedTransactionOverRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.Private(t)
	db, d, p := pgtest.NewOn(t, server), dispatch.New(), newProvider(nil)
	restart := func(mode devpg.Mode) {
		t.Helper()
		if err := server.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			_, err := db.Pool.Exec(t.Context(), `select 1`)
			return err == nil, fmt.Sprint(err)
		})
	}
	pgtest.Exec(t, db, `alter system set max_prepared_transactions = 10`)
	restart(devpg.Fast)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) {
		c.PollInterval = 200 * time.Millisecond
		// No direct way to the database: with a LISTEN session it would
		// forget its marks with that.
		c.Listen = c.Pool.Config().ConnConfig.Copy()
		c.Listen.Port, c.Listen.Fallbacks = 1, nil
	})
	stop := start(t, l)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { // other events pass all the time
		for ctx.Err() == nil {
			_, _ = db.Pool.Exec(ctx, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
			pause(10 * time.Millisecond)
		}
	})
	// others waits until others pass for that long: the marks are read 4 times
	// a second, and the floor is raised every second.
	others := func(d time.Duration) {
		t.Helper()
		begun, before := time.Now(), p.count()
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			n := p.count() - before
			return n > 0 && time.Since(begun) > d, fmt.Sprintf("%d others after %s", n, time.Since(begun))
		})
	}

	id := uuid.New()
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var seq int64
	for _, sql := range []string{`begin`, `set local session_replication_role = replica`} { // no notification
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.QueryRow(t.Context(), `insert into outbox_events (id, type, payload) values ($1, 'greeting', '{}') returning seq`, id).Scan(&seq); err != nil {
		t.Fatal(err)
	}
	others(600 * time.Millisecond) // two readings saw it in flight
	if _, err := conn.Exec(t.Context(), `prepare transaction 'p'`); err != nil {
		t.Fatal(err)
	}
	others(300 * time.Millisecond)
	restart(devpg.Immediate)
	others(2500 * time.Millisecond)
	if f := pgtest.QueryVal[int64](t, db, `select floor from outbox.state`); f >= seq {
		t.Errorf("floor %d passed number %d, which is still in flight", f, seq)
	}
	pgtest.Exec(t, db, `commit prepared 'p'`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return p.byEvent()[id] > 0, "the prepared event has not arrived"
	})
	cancel()
	wg.Wait()
	processed(t, db, 5*time.Second)
	stop()
	if n := p.byEvent()[id]; n != 1 {
		t.Errorf("the prepared event was sent %d times", n)
	}
}
