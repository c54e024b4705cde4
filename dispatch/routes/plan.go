package routes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// What one event may become.
const (
	maxRows  = 1000 // of a lookup with rows: many
	maxItems = 1000 // of a for_each
)

// maxScope bounds what is kept for a step that is rendered later, in bytes.
const maxScope = 256 << 10

// plan is the planning of one event.
type plan struct {
	ctx    context.Context
	event  dispatch.Event
	writer Writer
}

// routeRun is what a route makes of an event.
type routeRun struct {
	plan  *plan
	route *compiledRoute
	scope *scope // with the rows of the lookups

	lets    map[string]letText
	written written

	skip    string // why its steps have nothing to send
	refused string // why they never can be sent
}

type letText struct {
	text string
	err  error
}

// Plan returns the messages of all routes that match ev, none where none does.
// An error says that a lookup could not be answered now.
func (r *Routes) Plan(ctx context.Context, ev dispatch.Event, facts Facts, w Writer) ([]dispatch.Message, error) {
	var runs []*routeRun
	p := &plan{ctx: ctx, event: ev, writer: w}
	for _, c := range r.list {
		if c.matches(ev.Type) {
			runs = append(runs, &routeRun{plan: p, route: c})
		}
	}
	if len(runs) == 0 {
		return nil, nil
	}
	if err := p.look(facts, runs); err != nil {
		return nil, err
	}
	made := make([][]dispatch.Message, len(runs))
	var all sync.WaitGroup // the models are asked at the same time
	for i, rt := range runs {
		all.Go(func() { made[i] = rt.guarded() })
	}
	all.Wait()
	return slices.Concat(made...), nil
}

// look has the lookups of runs answered, all from one moment.
func (p *plan) look(facts Facts, runs []*routeRun) error {
	payload, err := render.Decode(p.event.Payload)
	if err != nil {
		for _, rt := range runs {
			rt.refused = "the payload cannot be read: " + err.Error()
		}
		return nil
	}
	values := map[string]any{"payload": payload, "event": map[string]any{
		"id": p.event.ID.String(), "type": p.event.Type, "created_at": p.event.CreatedAt.UTC().Format(time.RFC3339Nano),
	}}
	asks := false
	for _, rt := range runs {
		rt.scope = &scope{values: values, isRow: map[string]bool{}, now: p.event.CreatedAt}
		if rt.route.early {
			rt.decide()
		}
		asks = asks || rt.open() && rt.route.asks()
	}
	if !asks {
		return nil
	}
	return facts.Read(p.ctx, func(m Moment) error {
		for _, rt := range runs {
			if !rt.open() {
				continue
			}
			rt.scope.now, rt.scope.plain = m.Now(), nil
			if err := rt.lookUp(p.ctx, m); err != nil {
				return err
			}
			if rt.open() && !rt.route.early {
				rt.decide()
			}
		}
		return nil
	})
}

func (rt *routeRun) open() bool { return rt.skip == "" && rt.refused == "" }

// asks reports whether the route needs the database: for rows, or to know what
// time it is.
func (c *compiledRoute) asks() bool {
	return len(c.lookups) > 0 || c.when.reads("now") || slices.ContainsFunc(c.steps, func(s *compiledStep) bool {
		return s.at != nil || slices.Contains(s.reads, "now")
	})
}

// decide asks the route's condition.
func (rt *routeRun) decide() {
	ok, failed, err := rt.route.when.holds(rt.scope)
	switch {
	case err != nil:
		rt.refused = "when: " + err.Error()
	case !ok:
		rt.skip = "when: " + failed
	}
}

// lookUp runs the lookups of the route, one after the other.
func (rt *routeRun) lookUp(ctx context.Context, m Moment) error {
	for _, l := range rt.route.lookups {
		args, missing, err := (&rendering{route: rt, scope: rt.scope}).arguments(l.args, l.kind == "one")
		if err != nil {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
			return nil
		}
		if missing != "" {
			rt.skip = missing
			return nil
		}
		most := 1
		if l.kind == "many" {
			most = maxRows
		}
		found, err := m.Rows(ctx, l.Lookup, args, most)
		if bad, ok := errors.AsType[*query.BadValue](err); ok {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, bad)
			return nil
		}
		if err != nil {
			return fmt.Errorf("route %s, lookup %s: %w", rt.route.name, l.Name, err)
		}
		value, err := l.value(found, most)
		if err != nil {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
			return nil
		}
		if value == nil {
			rt.skip = fmt.Sprintf("lookup %s found no row", l.Name)
			return nil
		}
		now := rt.scope.now
		rt.scope = rt.scope.with(l.Name, value)
		rt.scope.now = now
		if l.kind != "many" {
			rt.scope.isRow[l.Name] = true
		}
	}
	return nil
}

// value is what the scope has of rows; nil where a row is needed and missing.
func (l *compiledLookup) value(found []json.RawMessage, most int) (any, error) {
	if len(found) > most {
		if l.kind == "many" {
			return nil, fmt.Errorf("it found more than %d rows; add a limit", most)
		}
		return nil, fmt.Errorf("it found more than one row; add what tells them apart, or an order by and limit 1")
	}
	list := make([]any, len(found))
	for i, raw := range found {
		v, err := render.Decode(raw)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	switch {
	case l.kind == "many":
		return list, nil
	case len(list) == 1:
		return list[0], nil
	case l.kind == "optional":
		return render.Null{}, nil
	}
	return nil, nil
}

// guarded is messages, of which a panic costs only this route.
func (rt *routeRun) guarded() (out []dispatch.Message) {
	defer func() {
		if p := recover(); p != nil {
			_ = debug.Stack()
			rt.skip, rt.refused = "", dispatch.MaskText(fmt.Sprintf("planning panicked: %v", p))
			out = rt.closed()
		}
	}()
	if !rt.open() {
		return rt.closed()
	}
	for _, s := range rt.route.steps {
		out = append(out, rt.step(s)...)
	}
	for _, c := range rt.route.cancels {
		out = append(out, rt.cancel(c)...)
	}
	if len(out) == 0 {
		out = append(out, dispatch.Message{Route: rt.route.name, Skip: "the route has nothing to deliver for this event", Terms: &dispatch.Terms{Freeze: true}})
	}
	return out
}

// closed has a message for each step of a route that does nothing, which says
// why.
func (rt *routeRun) closed() []dispatch.Message {
	var out []dispatch.Message
	for _, s := range rt.route.steps {
		m := rt.message(s)
		m.Skip, m.Refused = rt.skip, rt.refused
		out = append(out, m)
	}
	if len(out) == 0 {
		out = append(out, dispatch.Message{Route: rt.route.name, Skip: rt.skip, Refused: rt.refused, Terms: &dispatch.Terms{Freeze: true}})
	}
	return out
}

func (rt *routeRun) message(s *compiledStep) dispatch.Message {
	return dispatch.Message{Route: rt.route.name, Step: s.name, Channel: s.channel, Terms: &dispatch.Terms{
		Freeze: true, Optional: s.optional, Retry: s.retry, After: s.after,
	}}
}

// cancel makes the messages that withdraw steps of older events.
func (rt *routeRun) cancel(c compiledCancel) []dispatch.Message {
	key, err := businessKey(c.key, rt.scope)
	var out []dispatch.Message
	for _, step := range c.steps {
		m := dispatch.Message{Route: rt.route.name, Step: step, Terms: &dispatch.Terms{Freeze: true, Supersedes: key}}
		if err != nil {
			m.Refused = "cancels: " + err.Error()
		} else {
			m.Skip = "cancels what older events have left of this step"
		}
		out = append(out, m)
	}
	return out
}

// businessKey is what x says, as a text.
func businessKey(x *expression, sc *scope) (string, error) {
	v, err := x.value(sc)
	if err != nil {
		return "", fmt.Errorf("the key %s: %w", x.source, err)
	}
	var key string
	switch v := v.(type) {
	case string:
		key = v
	case int, float64:
		key = fmt.Sprint(v)
	}
	if key = strings.TrimSpace(key); key == "" || len(key) > 200 {
		return "", fmt.Errorf("the key %s is no text of up to 200 bytes and no number", x.source)
	}
	return key, nil
}

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
	var list []any
	switch v := decoded(v).(type) {
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
		if s.at != nil && m.Terms.Deadline.Before(r.scope.now) {
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
	if h, ok := v.(dispatch.HTTP); ok && h.Repeatable() && m.Terms.Retry.OnUnknown == "" {
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
		switch {
		case name == "steps" || name == "now":
		case name == "copy":
			texts := map[string]any{}
			for _, f := range s.fields {
				text, err := r.route.copyText(f)
				if err != nil {
					m.Refused = err.Error()
					return
				}
				texts[f] = text
			}
			keep["copy"] = texts
			m.Terms.Copy = r.route.source(s.fields)
		case r.route.isLet(name):
			text, err := r.route.let(name)
			if err != nil {
				m.Refused = err.Error()
				return
			}
			keep[name] = text
		default:
			if v, ok := r.scope.values[name]; ok {
				keep[name] = v
			}
		}
	}
	raw, err := json.Marshal(keep)
	switch {
	case err != nil:
		m.Refused = "what it is rendered from is no JSON"
	case len(raw) > maxScope:
		m.Refused = fmt.Sprintf("what it is rendered from has %d KiB; at most %d are kept until the steps before it are over", len(raw)>>10, maxScope>>10)
	default:
		m.Terms.Scope = raw
	}
}

// noWriter leaves every field its template.
type noWriter struct{}

func (noWriter) Write(ctx context.Context, a openai.Ask) map[string]openai.Words {
	return (*openai.Client)(nil).Write(ctx, a)
}
