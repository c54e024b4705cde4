package listener_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestTableIsLocked: while somebody has a whole table to himself, as ALTER TABLE and
// VACUUM FULL do, no outcome can be written, though no write takes longer than a lock
// may; so nothing new is begun. When the table is free all of it is recorded, and
// nothing was sent twice, nor put off as if its destination were at fault.
func TestTableIsLocked(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"outbox.deliveries", "public.outbox_events"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			const n = 2000
			db, d := pgtest.New(t), dispatch.New()
			p := newProvider(func(*dispatch.Delivery) error {
				time.Sleep(10 * time.Millisecond) // an endpoint's
				return nil
			})
			channel(d, "greeting", "carrier", p, plain)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, $1::int)`, n)
			var logged bytes.Buffer // a handler writes one line at a time
			stop := start(t, newListener(t, db, d, func(c *listener.Config) {
				c.Workers, c.BatchSize = 4, 1000
				c.Log = slog.New(slog.NewTextHandler(&logged, nil))
			}))
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return p.count() >= 700, "nothing is sent" })
			tx, err := db.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `lock table `+table+` in access exclusive mode`); err != nil {
				t.Fatal(err)
			}
			// A write that waits for a second, and then what counts as late.
			time.Sleep(3 * time.Second)
			before := p.count()
			time.Sleep(4 * time.Second) // longer than a destination may be silent
			if after := p.count(); after > before+4 {
				t.Errorf("%d were sent within seconds beside a record that cannot be written", after-before)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			processed(t, db, 60*time.Second)
			stop()
			if strings.Contains(logged.String(), "destination does not answer") {
				t.Error("what waits was put off, since its destination does not answer")
			}
			for id, times := range p.byEvent() {
				if times != 1 {
					t.Errorf("%s was sent %d times", id, times)
				}
			}
		})
	}
}
