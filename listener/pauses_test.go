package listener

import (
	"fmt"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
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

func TestPausesThatEnded(t *testing.T) {
	t.Parallel()
	before := pauses{{"type", "a"}, {"type", "b"}, {"channel", "a"}}
	if got := fmt.Sprint(before.without(pauses{{"type", "b"}, {"type", "c"}})); got != "[paused: type a paused: channel a]" {
		t.Error(got)
	}
}
