package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestClockIsTheDatabases before the first delivery is sent, whatever it was.
func TestClockIsTheDatabases(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"daemon", "once"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			db, d, clock := pgtest.New(t), dispatch.New(), &dispatch.Clock{}
			clock.Set(time.Now().Add(time.Hour))
			saw := make(chan time.Time, 1)
			channel(d, "greeting", "carrier", newProvider(func(*dispatch.Delivery) error { saw <- clock.Now(); return nil }), plain)
			l := newListener(t, db, d, func(c *listener.Config) { c.Clock = clock })
			insert(t, db, "greeting", `{}`)
			if how == "daemon" {
				start(t, l)
			} else if _, err := l.Once(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if off := pgtest.QueryVal[time.Time](t, db, `select clock_timestamp()`).Sub(<-saw); off < -time.Second || off > time.Minute {
				t.Errorf("the sender's clock was %s behind the database's", off)
			}
		})
	}
}
