package listener

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// simTypes are the types of events, and the channels of their steps. What is frozen is
// on record before it is sent; what is late is due minutes later; what begins with
// line stands in one of a few lines, and has no step that is held for a person.
var simTypes = map[string][]string{
	"hook": {"hook"}, "mail": {"mail"}, "sms": {"sms"}, "held": {"held"}, "once": {"once"}, "two": {"hook", "sms"},
	"frozen": {"mail", "sms", "hook"}, "later": {"sms", "once"}, "none": {},
	"line.hook": {"hook"}, "line.two": {"mail", "hook"}, "line.once": {"once"},
}

// simLine is the line of an event; "" for none.
func simLine(typ string, id uuid.UUID) string {
	if !strings.HasPrefix(typ, "line.") {
		return ""
	}
	return fmt.Sprint("line ", id[15]%3)
}

// simRoutes plan simulated events.
type simRoutes struct{}

var _ dispatch.Orderer = simRoutes{}

// Ordered implements dispatch.Orderer.
func (simRoutes) Ordered() []string { return []string{"line.*"} }

// Plan implements dispatch.Router.
func (simRoutes) Plan(_ context.Context, ev dispatch.Event) (msgs []dispatch.Message, err error) {
	for _, step := range simTypes[ev.Type] {
		m := dispatch.Message{Route: "r", Step: step, Channel: dispatch.Channel(step), Content: fmt.Appendf(nil, `{"to": %q}`, ev.ID)}
		line := simLine(ev.Type, ev.ID)
		if ev.Type == "frozen" || ev.Type == "later" || line != "" {
			m.Terms = &dispatch.Terms{Freeze: true, Ordering: line, Retry: dispatch.Retries{Attempts: 4}}
		}
		if ev.Type == "later" {
			m.Terms.At = ev.CreatedAt.Add(3 * time.Minute)
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// Render implements dispatch.Router.
func (simRoutes) Render(context.Context, dispatch.Message, map[string]dispatch.StepResult) (m dispatch.Message, err error) {
	return m, errNotSimulated
}
