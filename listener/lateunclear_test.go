package listener_test

import (
	"strings"
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

// TestLateIsNotSentAgain: what may have arrived, and would be sent again, is not once its deadline has
// passed.
func TestLateIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state     string
		onUnknown dispatch.OnUnknown
		want      string
	}{
		{"sending", dispatch.Resend, "expired"},
		{"uncertain", dispatch.Resend, "expired"},
		{"sending", dispatch.Hold, "held"},
		{"sending", dispatch.NeverTwice, "dead"},
	} {
		t.Run(tt.state+" "+string(tt.onUnknown), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			deliveryRow(t, db, `channel = 'carrier', state = '`+tt.state+`', finished_at = null, provider_id = null, attempts = 1,
				due_at = now(), deadline = now() - interval '1 second'`)
			p := newProvider(nil)
			d := dispatch.New()
			d.Register("carrier", p, dispatch.Policy{Announce: true, OnUnknown: tt.onUnknown})
			if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			got := pgtest.QueryVal[string](t, db, `select state || ': ' || last_error from outbox.deliveries`)
			if !strings.HasPrefix(got, tt.want+": ") || tt.want == "expired" && !strings.Contains(got, "may have arrived") || p.count() != 0 {
				t.Errorf("%s, sent %d times; want it %s and not sent", got, p.count(), tt.want)
			}
		})
	}
}
