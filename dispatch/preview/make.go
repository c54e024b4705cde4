package preview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Options are what a preview is made with. The zero value has no answers and no
// redirection.
type Options struct {
	// Answers has what steps answer that others wait for; see Answers.
	Answers map[string]json.RawMessage

	// Redirect is what the system does with recipients.
	Redirect dispatch.Redirect
}

// Of returns what d makes of ev. Its error says that it cannot be said now, as
// that of Dispatcher.Plan.
func Of(ctx context.Context, d *dispatch.Dispatcher, ev dispatch.Event, o Options) (*Preview, error) {
	msgs, err := d.Plan(ctx, ev)
	if err != nil {
		return nil, err
	}
	p := &Preview{Event: Event{ID: ev.ID, Type: ev.Type, CreatedAt: ev.CreatedAt.UTC()}}
	used := map[string]bool{}
	for i := range msgs {
		m := &msgs[i]
		var waits []string
		if sendable(m) && m.Terms != nil && len(m.Terms.After) > 0 {
			results, missing := o.results(msgs[:i], m, used)
			if waits = missing; len(waits) == 0 {
				if *m, err = d.Render(ctx, *m, results); err != nil {
					return nil, fmt.Errorf("step %s: %w", m.Step, err)
				}
			}
		}
		if !sendable(m) && m.Terms != nil { // it waits all the same, where it can be sent
			for _, step := range m.Terms.After {
				used[o.answerName(m.Route, step)] = true
			}
		}
		p.Deliveries = append(p.Deliveries, o.delivery(ev, m, waits))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Answers)) {
		if !used[name] {
			p.unused = append(p.unused, name)
		}
	}
	return p, nil
}

// Refuse is a preview of an event that is refused as a whole.
func Refuse(ev dispatch.Event, why string) *Preview {
	return &Preview{
		Event:      Event{ID: ev.ID, Type: ev.Type, CreatedAt: ev.CreatedAt.UTC()},
		Deliveries: []Delivery{{State: dispatch.Dead, Reason: why}},
	}
}

func sendable(m *dispatch.Message) bool {
	return m.Refused == "" && m.Skip == "" && (m.Terms == nil || m.Terms.Late == "")
}

// results are what came of the steps that m waits for: what the plan says
// already, else what was answered. missing are those of which nothing is known.
// The ledger has it the same way: where a step has several deliveries, one that
// was not delivered stands for all.
func (o Options) results(planned []dispatch.Message, m *dispatch.Message, used map[string]bool) (results map[string]dispatch.StepResult, missing []string) {
	results = map[string]dispatch.StepResult{}
	for _, step := range m.Terms.After {
		name := o.answerName(m.Route, step)
		answer, ok := o.Answers[name]
		if ok {
			used[name] = true
		}
		var over dispatch.State
		for i := range planned {
			one := &planned[i]
			if one.Route != m.Route || one.Step != step || sendable(one) {
				continue
			}
			// What is skipped with its content lacks nothing but a channel here:
			// whoever answers for it wants to see what follows.
			if !ok || one.Skip == "" || one.Content == nil {
				over, _ = stateOf(one)
			}
		}
		switch {
		case over != "":
			results[step] = dispatch.StepResult{State: over}
		case ok:
			results[step] = dispatch.StepResult{State: dispatch.Delivered, Answer: answer}
		default:
			missing = append(missing, step)
		}
	}
	// One that was not delivered is enough to know what follows.
	for _, r := range results {
		if r.State != dispatch.Delivered {
			return results, nil
		}
	}
	return results, missing
}

// answerName is the name that the answer of a route's step is given under.
func (o Options) answerName(route, step string) string {
	name := route + "." + step
	if _, ok := o.Answers[name]; ok {
		return name
	}
	return step
}

// stateOf is what m begins as, in the order in which the listener asks.
func stateOf(m *dispatch.Message) (dispatch.State, string) {
	t := dispatch.Terms{}
	if m.Terms != nil {
		t = *m.Terms
	}
	switch {
	case m.Refused != "":
		return dispatch.Dead, m.Refused
	case m.Skip != "":
		return dispatch.Skipped, m.Skip
	case t.Late != "":
		return dispatch.Expired, t.Late
	case !t.At.IsZero() || t.InsteadOf != "":
		return dispatch.Scheduled, ""
	}
	return dispatch.Ready, ""
}

func (o Options) delivery(ev dispatch.Event, m *dispatch.Message, waits []string) Delivery {
	d := Delivery{Route: m.Route, Step: m.Step, Channel: m.Channel, Recipient: m.Recipient, WaitsFor: waits}
	d.State, d.Reason = stateOf(m)
	if m.Item != "" {
		if d.Item = json.RawMessage(m.Item); !json.Valid(d.Item) {
			d.Item, _ = json.Marshal(m.Item)
		}
	}
	if t := m.Terms; t != nil {
		d.At, d.Deadline, d.Optional, d.After = utc(t.At), utc(t.Deadline), t.Optional, t.After
		if d.InsteadOf = t.InsteadOf; d.InsteadOf != "" {
			d.At, d.Optional = time.Time{}, false // which it is anyway
		}
		d.Copy, d.Retry = copies(t.Copy), retry(t.Retry)
		d.Ordering = t.Ordering
		if m.Channel == "" {
			d.Cancels = t.Supersedes
		} else {
			d.Supersedes = t.Supersedes
		}
	}
	if m.Content == nil {
		return d
	}
	d.content(m)
	if o.Redirect.Active() && sendable(m) {
		send, held := o.Redirect.Apply(&dispatch.Delivery{EventID: ev.ID, Type: ev.Type, Date: ev.CreatedAt, Message: *m})
		switch {
		case send == nil:
			d.Held = held
		case send.Recipient != m.Recipient:
			d.RedirectedTo = send.Recipient
		}
	}
	return d
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func retry(r dispatch.Retries) *Retry {
	if r == (dispatch.Retries{}) {
		return nil
	}
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return &Retry{Attempts: r.Attempts, First: text(r.First), Longest: text(r.Longest), OnUncertain: r.OnUnknown, IfNotFound: r.IfNotFound}
}

// copySource is the beginning of what Terms.Copy says of one field.
var copySource = regexp.MustCompile(`(?:^|, )([A-Za-z_][A-Za-z0-9_]*): (ai(?:$|, )|fallback \()`)

// copies takes Terms.Copy apart, which has "sms: ai, subject: fallback (why)".
func copies(text string) []Copy {
	var out []Copy
	for text != "" {
		m := copySource.FindStringSubmatchIndex(text)
		if m == nil || m[0] != 0 {
			return append(out, Copy{Source: text})
		}
		c := Copy{Field: text[m[2]:m[3]], Source: "ai"}
		text = text[m[4]:]
		if rest, ok := strings.CutPrefix(text, "ai"); ok {
			text = rest
		} else {
			text = strings.TrimPrefix(text, "fallback (")
			end := len(text)
			if next := copySource.FindStringIndex(text); next != nil {
				end = next[0]
			}
			c.Source, c.Reason = "fallback", strings.TrimSuffix(text[:end], ")")
			text = text[end:]
		}
		out = append(out, c)
	}
	return out
}

// Answers reads the answers of steps: a JSON object that has, by the name of a
// step, or of a route and a step as in "route.step", the object that the step
// answers with. Its error says what is wrong with them.
func Answers(raw []byte) (map[string]json.RawMessage, error) {
	var out map[string]json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, errors.New("it has to be an object that has answers by the names of steps")
		}
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	return out, CheckAnswers(out)
}

// CheckAnswers says what is wrong with the answers of steps.
func CheckAnswers(answers map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(answers[name], &object); err != nil || object == nil {
			return fmt.Errorf("the answer of %q has to be an object, such as {\"text\": \"…\"}", name)
		}
	}
	return nil
}
