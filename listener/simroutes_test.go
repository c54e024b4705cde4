package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// simTypes are the types of events, and the channels of their steps. What is frozen is
// on record before it is sent; what is late is due minutes later; what begins with
// line stands in one of a few lines.
var simTypes = map[string][]string{
	"hook": {"hook"}, "mail": {"mail"}, "sms": {"sms"}, "held": {"held"}, "once": {"once"}, "two": {"hook", "sms"},
	"frozen": {"mail", "sms", "hook"}, "later": {"sms", "once"}, "none": {},
	"line.sms": {"sms", "held"}, "line.hook": {"hook"}, "line.two": {"mail", "hook"}, "line.once": {"once"},
	"chain.sms": {"sms", "mail"}, "chain": {"hook", "once", "mail"}, "fan": {"once", "mail", "hook"}, "line.chain": {"hook", "mail"}, "line.late": {"mail", "once"},
	"visit": {"sms", "mail"}, "visit.chain": {"mail", "hook"}, "visit.canceled": {"sms", "mail"},
	"notice": {"sms", "once"}, "notice.later": {"sms", "mail"}, "notice.once": {"once", "mail"},
}

// simVisit is what an event supersedes older ones by; "" for nothing. The SMS of a visit is
// due minutes later.
func simVisit(typ string, id uuid.UUID) string {
	if !strings.HasPrefix(typ, "visit") {
		return ""
	}
	return fmt.Sprint("visit ", id[14]%3)
}

// simAfter are the steps that wait for others, by type.
var simAfter = map[string]map[string][]string{
	"chain.sms":  {"mail": {"sms"}},
	"chain":      {"once": {"hook"}, "mail": {"once"}},
	"fan":        {"hook": {"once", "mail"}},
	"line.chain": {"mail": {"hook"}},
	"line.late":  {"mail": {"once"}},

	"visit.chain": {"hook": {"mail"}},
}

// simLine is the line of an event; "" for none.
func simLine(typ string, id uuid.UUID) string {
	if !strings.HasPrefix(typ, "line.") {
		return ""
	}
	return fmt.Sprint("line ", id[15]%3)
}

// simLater reports whether a step is sent minutes later.
func simLater(typ, step string) bool {
	return typ == "later" || typ == "visit" && step == "sms" || simInstead(typ, step) != "" || typ == "notice.later"
}

// simInstead is the step that another one is sent instead of; "" for none.
func simInstead(typ, step string) string {
	if strings.HasPrefix(typ, "notice") && step != simTypes[typ][0] {
		return simTypes[typ][0]
	}
	return ""
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
		after, visit := simAfter[ev.Type][step], simVisit(ev.Type, ev.ID)
		if ev.Type == "frozen" || ev.Type == "later" || visit != "" || strings.HasPrefix(ev.Type, "notice") || line != "" || simAfter[ev.Type] != nil {
			m.Terms = &dispatch.Terms{Freeze: true, Ordering: line, Retry: dispatch.Retries{Attempts: 4}}
		}
		if visit != "" && step != "hook" {
			m.Terms.Supersedes = visit
		}
		if ev.Type == "visit.canceled" {
			m.Channel, m.Content, m.Skip = "", nil, "cancels"
		}
		if instead := simInstead(ev.Type, step); instead != "" {
			m.Terms.InsteadOf, m.Terms.Optional = instead, true
		} else if simLater(ev.Type, step) {
			m.Terms.At = ev.CreatedAt.Add(3 * time.Minute)
		}
		if after != nil {
			m.Terms.After, m.Terms.Scope, m.Content = after, json.RawMessage(m.Content), nil
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// Render implements dispatch.Router.
func (simRoutes) Render(_ context.Context, m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
	for _, step := range m.Terms.After {
		if state := steps[step].State; state != dispatch.Delivered {
			m.Skip = fmt.Sprintf("the step %s before it is %q", step, state)
			return m, nil
		}
	}
	m.Content = m.Terms.Scope
	return m, nil
}
