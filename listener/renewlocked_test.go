package listener_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestLockedRowLetsNeighboursLive: while the application holds the row of one event for
// longer than a lease, what is in flight beside it keeps its leases and is sent once.
func TestLockedRowLetsNeighboursLive(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	db, d := pgtest.New(t), dispatch.New()
	answer := make(chan struct{})
	p := newProvider(func(*dispatch.Delivery) error { <-answer; return nil })
	channel(d, "locked", "carrier", p, plain)
	channel(d, "beside", "post", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.Lease, c.PollInterval = lease, 200*time.Millisecond })
	start(t, l)
	listening(t, l)
	insert(t, db, "locked", `{}`)
	beside := insert(t, db, "beside", `{}`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return p.count() == 2, fmt.Sprintf("%d in flight", p.count())
	})
	release := lock(t, db, `select from outbox_events where type = 'locked' for update`)
	begun := pgtest.QueryVal[time.Time](t, db, `select clock_timestamp()`)
	pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
		over := pgtest.QueryVal[time.Time](t, db, `select clock_timestamp()`).Sub(begun)
		return over > 3*lease, fmt.Sprintf("over after %s", over)
	})
	close(answer)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		got := pgtest.QueryVal[string](t, db, `select concat_ws(' ', processed_at is not null, state, attempts)
			from outbox_events as e left join outbox.deliveries on event_id = e.id where e.type = 'beside'`)
		return got == "t delivered 1", got
	})
	if n := p.byEvent()[beside]; n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
	release()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is not null`)
		return n == 2, fmt.Sprintf("%d of 2 processed", n)
	})
}
