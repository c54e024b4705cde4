package routes

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// step makes the messages of one step, one for each of its items.
func (rt *routeRun) step(s *compiledStep) []dispatch.Message {
	m := rt.message(s)
	if s.supersedes != nil {
		key, err := businessKey(s.supersedes, rt.scope)
		if err != nil {
			m.Refused = "supersedes: " + err.Error()
			return []dispatch.Message{m}
		}
		m.Terms.Supersedes = key
	}
	if rt.route.ordering != nil && s.at == nil && s.insteadOf == "" {
		key, err := rt.orderingKey()
		if err != nil {
			m.Refused = err.Error()
			return []dispatch.Message{m}
		}
		m.Terms.Ordering = key
	}
	if s.forEach == nil {
		rt.fill(&m, s, rt.scope)
		return []dispatch.Message{m}
	}
	items, err := rt.items(s.forEach)
	switch {
	case err != nil:
		m.Refused = "for_each: " + err.Error()
		return []dispatch.Message{m}
	case len(items) == 0:
		m.Skip = "for_each: no items"
		return []dispatch.Message{m}
	}
	var out []dispatch.Message
	for _, it := range items {
		one := m
		terms := *m.Terms
		one.Terms, one.Item = &terms, it.id
		rt.fill(&one, s, rt.scope.with("item", it.value))
		out = append(out, one)
	}
	return out
}

type item struct {
	id    string // its JSON
	value any
}

// items are the different items of a list, without those that are empty.
func (rt *routeRun) items(x *expression) ([]item, error) {
	v, err := x.value(rt.scope)
	if missing, ok := errors.AsType[*nullError](err); ok {
		return nil, fmt.Errorf("%s (%v)", x.source, missing)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.source, err)
	}
	exact, ok := rt.scope.at(x.bare()) // with its numbers as they are
	if !ok || x.bare() == nil {
		exact = decoded(v)
	}
	var list []any
	switch v := exact.(type) {
	case []any:
		list = v
	case render.Null:
	default:
		return nil, fmt.Errorf("%s is not a list", x.source)
	}
	var out []item
	seen := map[string]bool{}
	for _, v := range list {
		if s, ok := v.(string); ok {
			v = strings.TrimSpace(s)
		}
		if _, null := v.(render.Null); null || v == "" {
			continue
		}
		id, err := encodeJSON(v)
		if err != nil || seen[id] {
			continue
		}
		seen[id] = true
		if out = append(out, item{id, v}); len(out) > maxItems {
			return nil, fmt.Errorf("%s has more than %d items", x.source, maxItems)
		}
	}
	return out, nil
}

// fill gives m its time, recipient and content, or says why it has none.
func (rt *routeRun) fill(m *dispatch.Message, s *compiledStep, sc *scope) {
	if rt.plan.full() {
		m.Refused = tooMuch
		return
	}
	r := &rendering{route: rt, scope: sc, created: rt.plan.event.CreatedAt}
	if !s.when.reads("steps") {
		if !r.decide(m, s) {
			return
		}
	}
	if skip, err := r.times(m, s); skip != "" || err != nil {
		m.Skip, m.Refused = skip, reason(err)
		return
	}
	if m.Terms.Late != "" {
		return
	}
	if len(s.after) > 0 {
		r.postpone(m, s)
		return
	}
	r.content(m, s)
}

// decide asks the step's condition; false where m is done.
func (r *rendering) decide(m *dispatch.Message, s *compiledStep) bool {
	ok, failed, err := r.holds(s.when)
	switch {
	case err != nil:
		m.Refused = "when: " + err.Error()
	case !ok:
		m.Skip = "when: " + failed
	}
	return ok && err == nil
}

// times says when m is due and until when.
func (r *rendering) times(m *dispatch.Message, s *compiledStep) (skip string, err error) {
	due := r.created
	if s.at != nil {
		at, missing, err := s.at.of(r.scope)
		if err != nil {
			return "", fmt.Errorf("at: %w", err)
		}
		if missing != "" {
			return "at: " + missing, nil
		}
		due = at
		if at.After(r.scope.now) {
			m.Terms.At = at
		}
	}
	if s.deadline > 0 {
		m.Terms.Deadline = due.Add(s.deadline)
		if m.Terms.Deadline.Before(r.scope.now) {
			m.Terms.Late = fmt.Sprintf("its time was %s, and its deadline %v later", due.UTC().Format(time.RFC3339), s.deadline)
		}
	}
	return "", nil
}

// content gives m its recipient and its content.
func (r *rendering) content(m *dispatch.Message, s *compiledStep) {
	to, skip, err := s.content.recipient(r)
	if skip != "" || err != nil {
		m.Skip, m.Refused = skip, reason(err)
		return
	}
	m.Recipient, r.to = to, to
	v, skip, err := s.content.make(r)
	if len(s.fields) > 0 && r.route.written.words != nil {
		m.Terms.Copy = r.route.source(s.fields)
	}
	if skip != "" || err != nil {
		m.Skip, m.Refused = skip, reason(err)
		return
	}
	if m.Content, err = json.Marshal(v); err != nil {
		m.Refused = "the content is no JSON"
		return
	}
	if !r.route.plan.take(m.Content) {
		m.Content, m.Refused = nil, tooMuch
	}
	s.repeatable(m)
}

// repeatable notes in m's terms, which go on record when it is planned, that a
// second request does no harm.
func (s *compiledStep) repeatable(m *dispatch.Message) {
	if h, ok := s.content.(*httpContent); ok && h.fixed.Repeatable() && m.Terms.Retry.OnUnknown == "" {
		m.Terms.Retry.OnUnknown = dispatch.Resend
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// postpone keeps what m is rendered from once the steps that it waits for are
// over.
func (r *rendering) postpone(m *dispatch.Message, s *compiledStep) {
	keep := map[string]any{"event": r.scope.values["event"]}
	for _, name := range s.reads {
		switch name {
		case "steps":
			continue
		case "now":
			keep[name] = r.scope.now.UTC().Format(time.RFC3339Nano)
			continue
		}
		v, ok, err := r.route.derived(name, s.fields)
		if err != nil {
			m.Refused = err.Error()
			return
		}
		if !ok {
			v, ok = r.scope.values[name]
		}
		if ok {
			keep[name] = v
		}
		if name == "copy" {
			m.Terms.Copy = r.route.source(s.fields)
		}
	}
	raw, err := json.Marshal(keep)
	switch {
	case err != nil:
		m.Refused = "what it is rendered from is no JSON"
	case len(raw) > maxScope:
		m.Refused = fmt.Sprintf("what it is rendered from has %d KiB; at most %d are kept until the steps before it are over", len(raw)>>10, maxScope>>10)
	case !r.route.plan.take(raw):
		m.Refused = tooMuch
	default:
		m.Terms.Scope = raw
		s.repeatable(m)
	}
}
