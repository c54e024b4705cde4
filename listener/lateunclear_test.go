package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestLateAndUnclear: an attempt that nobody knows the outcome of is put off by a pause
// although its deadline has passed, which settles nothing about it.
func TestLateAndUnclear(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"sending", "uncertain"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, `insert into outbox.pauses (kind, pattern, who, reason) values ('channel', 'carrier', 'kim', '')`)
			deliveryRow(t, db, `channel = 'carrier', state = '`+state+`', finished_at = null, provider_id = null,
				due_at = now(), deadline = now() - interval '1 second'`)
			p := newProvider(nil)
			d := dispatch.New()
			d.Register("carrier", p, dispatch.Policy{Announce: true, OnUnknown: dispatch.Hold})
			start(t, newListener(t, db, d, nil))
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				return pgtest.QueryVal[bool](t, db, `select due_at > now() + interval '1 minute' and claim is not null and last_error = 'paused: channel carrier' from outbox.deliveries`),
					pgtest.QueryVal[string](t, db, `select state || ', due in ' || (due_at - now()) || ': ' || coalesce(last_error, '') from outbox.deliveries`)
			})
			if got := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries`); got != state || p.count() != 0 {
				t.Errorf("%s, sent %d times", got, p.count())
			}
		})
	}
}
