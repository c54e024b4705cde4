package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestDeadlineIsNoEndOfALease: what is being sent when its deadline passes is left to
// whoever sends it: it is sent once, and its outcome is on record.
func TestDeadlineIsNoEndOfALease(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
	}{
		{"not announced", plain},
		{"announced, and sent again where no answer came", dispatch.Policy{Announce: true, OnUnknown: dispatch.Resend}},
		{"announced, and held where no answer came", dispatch.Policy{Announce: true, OnUnknown: dispatch.Hold}},
		{"announced, and never sent twice", dispatch.Policy{Announce: true, OnUnknown: dispatch.NeverTwice}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			swept := make(chan struct{})
			p := newProvider(func(*dispatch.Delivery) error { <-swept; return nil })
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{step("soon", dispatch.Terms{Deadline: time.Now().Add(500 * time.Millisecond)})}, nil
			}}
			l := newListener(t, db, routed(p, tt.policy, r), func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
			start(t, l)
			ev := insert(t, db, "e", `{}`)
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return p.count() > 0, "not sent" })
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				return pgtest.QueryVal[bool](t, db, `select deadline < clock_timestamp() from outbox.deliveries`), "its deadline is to come"
			})
			passed := time.Now()
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				return l.Health().LastSweep.After(passed.Add(300 * time.Millisecond)), "not swept since"
			})
			close(swept)
			processed(t, db, 10*time.Second)
			if got := ledgerOf(t, db, ev); got.State != "delivered" || got.Attempts != 1 || p.count() != 1 {
				t.Errorf("%+v, sent %d times; want it delivered by one attempt", got, p.count())
			}
		})
	}
}

// TestDeadlineInHand: what waits for a worker when its deadline passes is expired, and not
// sent. A second is for the listener's clock, which is late by what a sweep takes.
func TestDeadlineInHand(t *testing.T) {
	t.Parallel()
	db, stuck := pgtest.New(t), newBlocker()
	d := dispatch.New()
	d.Register("carrier", stuck, dispatch.Policy{Concurrency: 1})
	d.Use(router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "first" {
			return []dispatch.Message{step("first", dispatch.Terms{})}, nil
		}
		return []dispatch.Message{step("soon", dispatch.Terms{Deadline: time.Now().Add(300 * time.Millisecond)})}, nil
	}})
	start(t, newListener(t, db, d, nil))
	insert(t, db, "first", `{}`)
	<-stuck.entered
	ev := insert(t, db, "second", `{}`)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return pgtest.QueryVal[bool](t, db, `select coalesce(bool_or(deadline < clock_timestamp() - interval '1 second'), false) from outbox.deliveries`), "not planned, or its deadline is to come"
	})
	close(stuck.gate)
	processed(t, db, 10*time.Second)
	if got := ledgerOf(t, db, ev); got.State != "expired" || got.Attempts != 0 || len(stuck.entered) != 0 {
		t.Errorf("%+v, and %d more were sent; want it expired", got, len(stuck.entered))
	}
}
