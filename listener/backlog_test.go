package listener_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestTakeOverBeforeABacklog: what a dead listener had is taken over when its lease runs out, also
// by one that started before that and has a backlog to claim. It does not wait for the end of that.
func TestTakeOverBeforeABacklog(t *testing.T) {
	t.Parallel()
	const backlog = 300
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(*dispatch.Delivery) error {
		time.Sleep(20 * time.Millisecond) // an endpoint's
		return nil
	})
	channel(d, "greeting", "carrier", p, plain)
	left := insert(t, db, "greeting", `{}`)
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = now() + interval '1 second'`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, $1::int)`, backlog)
	start(t, newListener(t, db, d, func(c *listener.Config) {
		c.Workers, c.BatchSize, c.PollInterval, c.Lease = 2, 1, 200*time.Millisecond, 10*time.Second
	}))
	pgtest.Eventually(t, 60*time.Second, func() (bool, string) {
		return p.count() >= backlog, fmt.Sprintf("%d sent", p.count())
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	place := slices.IndexFunc(p.sent, func(sent dispatch.Delivery) bool { return sent.EventID == left })
	if place < 0 || place > backlog*3/4 {
		t.Errorf("the event that was left is the %d. of %d sent; 0: none of them", place+1, len(p.sent))
	}
}
