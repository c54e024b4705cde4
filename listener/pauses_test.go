package listener

import (
	"fmt"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestPauses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		pauses       pauses
		typ, channel string
		want         string
	}{
		{"none", nil, "quote.sent", "sms", ""},
		{"the type", pauses{{"type", "quote.sent"}}, "quote.sent", "sms", "paused: type quote.sent"},
		{"another type", pauses{{"type", "quote.sent"}}, "quote.lost", "sms", ""},
		{"a type that begins so", pauses{{"type", "quote.*"}}, "quote.lost", "sms", "paused: type quote.*"},
		{"the dot counts", pauses{{"type", "quote.*"}}, "quotes", "sms", ""},
		{"a type with the channel's name", pauses{{"type", "sms"}}, "quote.sent", "sms", ""},
		{"the channel", pauses{{"channel", "sms"}}, "quote.sent", "sms", "paused: channel sms"},
		{"another channel", pauses{{"channel", "email"}}, "quote.sent", "sms", ""},
		{"no stars in channels", pauses{{"channel", "s*"}}, "quote.sent", "sms", ""},
		{"the first of two", pauses{{"channel", "email"}, {"channel", "sms"}, {"type", "quote.*"}}, "quote.sent", "sms", "paused: channel sms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.pauses.hold(tt.typ, dispatch.Channel(tt.channel)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestResume: what a pause kept back is made due part by part, and what somebody
// else kept back is left alone.
func TestResume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, $1::integer)`, ResumeBatch+10)
	addDelivery(t, db, "a", "x", "ready", "null")
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() + interval '5 minutes', last_error = case when event_seq <= 5 then 'paused: type a' else 'paused: channel a' end`)
	s, _, _ := pruners(t, db)
	n, err := s.resume(t.Context(), []string{PausedBy("channel", "a")})
	if err != nil || n != ResumeBatch+5 {
		t.Errorf("%d made due: %v", n, err)
	}
	if late := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where due_at > now()`); late != 5 {
		t.Errorf("%d are not due, want 5", late)
	}
	if parts := pgtest.QueryVal[int](t, db, `select count(distinct xmin::text) from outbox.deliveries where due_at <= now()`); parts != 2 {
		t.Errorf("made due in %d transactions", parts)
	}
}

func TestPausesThatEnded(t *testing.T) {
	t.Parallel()
	before := pauses{{"type", "a"}, {"type", "b"}, {"channel", "a"}}
	if got := fmt.Sprint(before.without(pauses{{"type", "b"}, {"type", "c"}})); got != "[paused: type a paused: channel a]" {
		t.Error(got)
	}
}
