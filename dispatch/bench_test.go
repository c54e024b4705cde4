package dispatch_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sink"
)

// BenchmarkPlan renders one event of each direct type.
func BenchmarkPlan(b *testing.B) {
	d := dispatch.New()
	for _, ch := range []dispatch.Channel{dispatch.ChannelSMS, dispatch.ChannelEmail, dispatch.ChannelWebhook, dispatch.ChannelDiscard} {
		d.Register(ch, sink.NewDiscard(), dispatch.Policy{})
	}
	text := strings.Repeat("x", 200)
	for typ, payload := range map[string]string{
		"sms.send":     `{"to": "+12025550123", "body": "Booked for 1 December, 10:00"}`,
		"email.send":   `{"to": "ann@example.com", "subject": "Booked", "text": "` + text + `"}`,
		"webhook.send": `{"url": "https://example.com/hooks", "body": {"event": "booked", "text": "` + text + `"}}`,
		"discard.send": `{"n": 1, "text": "` + text + `"}`,
	} {
		b.Run(typ, func(b *testing.B) {
			ev := dispatch.Event{ID: uuid.New(), Type: typ, Payload: json.RawMessage(payload)}
			b.ReportAllocs()
			for b.Loop() {
				if msgs, _ := d.Plan(context.Background(), ev); len(msgs) != 1 || msgs[0].Refused+msgs[0].Skip != "" {
					b.Fatal(msgs)
				}
			}
		})
	}
}

// BenchmarkDecide classifies what an attempt came to.
func BenchmarkDecide(b *testing.B) {
	policy := dispatch.Policy{OnUnknown: dispatch.Hold}
	e := &dispatch.Error{Kind: dispatch.Throttled, Status: 429}
	b.ReportAllocs()
	for b.Loop() {
		if o := dispatch.Decide(policy, 1, 12, dispatch.Receipt{}, e); o.State != dispatch.Retry {
			b.Fatal(o)
		}
	}
}
