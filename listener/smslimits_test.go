package listener_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/country"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestSMSLimits: what is over one is not sent, and says why; others are.
func TestSMSLimits(t *testing.T) {
	t.Parallel()
	type sms struct {
		to string
		n  int
	}
	for _, tt := range []struct {
		name   string
		limits listener.SMSLimits
		before string // run after the first half of sent
		sent   []sms
		want   string // states and reasons with their counts
	}{
		{"none", listener.SMSLimits{}, "", []sms{{"+12025550101", 20}}, "delivered  20"},
		{"a country", listener.SMSLimits{Country: country.List{"US"}.Has}, "", []sms{{"+12025550101", 1}, {"+18765550101", 2}},
			"dead not sent: the number is of none of the countries that SMS may go to 2, delivered  1"},
		{"a number", listener.SMSLimits{PerNumber: 3}, "", []sms{{"+12025550101", 5}, {"+12025550102", 2}},
			"delivered  5, held not sent: 3 SMS went to this number within an hour 2"},
		{"a number, an hour later", listener.SMSLimits{PerNumber: 3},
			`update outbox.sms_counts set times = array(select t - interval '61 minutes' from unnest(times) as t)`,
			[]sms{{"+12025550101", 5}, {"+12025550101", 2}}, "delivered  5, held not sent: 3 SMS went to this number within an hour 2"},
		{"a day", listener.SMSLimits{PerDay: 4}, "", []sms{{"+12025550101", 3}, {"+12025550102", 3}}, "delivered  4, held not sent: 4 SMS went today 2"},
		{"the day before", listener.SMSLimits{PerDay: 4}, `update outbox.sms_counts set key = 'day 2026-01-01', at = now() - interval '3 days'`,
			[]sms{{"+12025550101", 4}, {"+12025550102", 3}}, "delivered  7"},
		{"both", listener.SMSLimits{PerDay: 4, PerNumber: 3}, "", []sms{{"+12025550101", 4}, {"+12025550102", 3}},
			"delivered  4, held not sent: 3 SMS went to this number within an hour 1, held not sent: 4 SMS went today 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newProvider(nil)
			ls := make([]*listener.Listener, 2) // limits are those of all listeners together
			for i := range ls {
				d := dispatch.New()
				d.Register(dispatch.ChannelSMS, p, careful)
				ls[i] = newListener(t, db, d, func(c *listener.Config) { c.SMS = tt.limits; c.Workers = 4 })
			}
			for i, s := range tt.sent {
				if i == 1 && tt.before != "" {
					pgtest.Exec(t, db, tt.before)
				}
				for n := range s.n {
					insert(t, db, "sms.send", fmt.Sprintf(`{"to": %q, "body": "number %d"}`, s.to, n))
				}
				// Once more where the machine paused while one was to be announced: it was given back, due at once.
				for left := -1; left != 0; {
					if _, err := ls[i%2].Once(t.Context(), 0); err != nil {
						t.Fatal(err)
					}
					left = pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'ready'`)
				}
			}
			got := strings.Join(pgtest.QueryVals[string](t, db, `select state || ' ' || coalesce(last_error, '') || ' ' || count(*) from outbox.deliveries group by state, last_error order by 1`), ", ")
			if got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.sms_counts where at < now() - interval '2 days'`); n != 0 {
				t.Errorf("%d counts are old", n)
			}
		})
	}
}

// TestSMSIsCountedOnce, however often it is tried.
func TestSMSIsCountedOnce(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	failures := 2
	d.Register(dispatch.ChannelSMS, newProvider(func(*dispatch.Delivery) error {
		if failures--; failures >= 0 {
			return &dispatch.Error{Channel: dispatch.ChannelSMS, Kind: dispatch.Throttled, Err: fmt.Errorf("too fast")}
		}
		return nil
	}), careful)
	insert(t, db, "sms.send", `{"to": "+12025550101", "body": "hello"}`)
	for range 3 {
		l := newListener(t, db, d, func(c *listener.Config) { c.SMS.PerDay = 1 })
		if _, err := l.Once(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where due_at is not null`)
	}
	if got := pgtest.QueryVal[string](t, db, `select state || ' ' || attempts from outbox.deliveries`); got != "delivered 3" {
		t.Error(got)
	}
}

// TestSMSThatDoesNotLeave counts for nothing: one that is cut short by the end of its
// listener is sent by the next one, though no more than one may be.
func TestSMSThatDoesNotLeave(t *testing.T) {
	t.Parallel()
	db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
	limits := listener.SMSLimits{PerDay: 1, PerNumber: 1}
	d.Register(dispatch.ChannelSMS, b, careful)
	insert(t, db, "sms.send", `{"to": "+12025550101", "body": "hello"}`)
	stop := start(t, newListener(t, db, d, func(c *listener.Config) { c.SMS, c.ShutdownGrace = limits, 100*time.Millisecond }))
	<-b.entered
	stop()

	d, p := dispatch.New(), newProvider(nil)
	d.Register(dispatch.ChannelSMS, p, careful)
	insert(t, db, "sms.send", `{"to": "+12025550101", "body": "one too many"}`)
	if _, err := newListener(t, db, d, func(c *listener.Config) { c.SMS, c.Workers = limits, 1 }).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(pgtest.QueryVals[string](t, db, `select state || ' ' || attempts from outbox.deliveries order by state`), ", ")
	if got != "delivered 1, held 0" || p.count() != 1 {
		t.Errorf("%s; %d sent, want 1", got, p.count())
	}
}
