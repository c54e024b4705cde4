package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestNothingBeginsAtAStop: what waits for outcomes to be written when a listener is asked to
// stop is given back uncounted when that is possible again, in place of being begun then.
func TestNothingBeginsAtAStop(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(*dispatch.Delivery) error {
		time.Sleep(10 * time.Millisecond) // an endpoint's
		return nil
	})
	channel(d, "greeting", "carrier", p, plain)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 2000)`)
	stop := start(t, newListener(t, db, d, func(c *listener.Config) { c.Workers, c.BatchSize = 4, 1000 }))
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return p.count() >= 400, "nothing is sent" })
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table outbox.deliveries in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	before, since := p.count(), time.Now()
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		if n := p.count(); n != before {
			before, since = n, time.Now()
		}
		return time.Since(since) > time.Second, "it goes on sending"
	})
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and application_name = 'outbox-listener listen'`)
		return n == 0, "it does not stop"
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if after := p.count(); after != before {
		t.Errorf("%d were begun after it was asked to stop", after-before)
	}
	if sent, recorded := p.count(), pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is not null`); sent != recorded {
		t.Errorf("%d are on record as processed, and %d were sent", recorded, sent)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until > now() and lease_until < 'infinity'`); n > 0 {
		t.Errorf("%d are leased", n)
	}
}
