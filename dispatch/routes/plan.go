package routes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// maxContent bounds what one event becomes, in bytes of content: it is held and put
// on record as a whole.
const maxContent = 32 << 20

// maxScope bounds what is kept for a step that is rendered later, in bytes.
const maxScope = 256 << 10

// plan is the planning of one event.
type plan struct {
	ctx    context.Context
	event  dispatch.Event
	writer Writer

	made atomic.Int64 // bytes of content so far
}

// full reports whether the event has become as much as it may.
func (p *plan) full() bool { return p.made.Load() > maxContent }

// take counts content, and returns false where it is too much.
func (p *plan) take(content []byte) bool {
	p.made.Add(int64(len(content)))
	return !p.full()
}

// tooMuch is why the rest of such an event is refused.
const tooMuch = "the event becomes more than 32 MiB of content; have for_each go through fewer items"

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
	// Words that a model was not given the time for, since the listener stops, are
	// no reason to do without.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
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
	shared := sync.OnceValue(func() map[string]any { return plainValue(values).(map[string]any) })
	asks := false
	for _, rt := range runs {
		rt.scope = &scope{values: values, isRow: map[string]bool{}, now: p.event.CreatedAt, shared: shared}
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
			rt.scope.now = m.Now()
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
		return s.at != nil || s.deadline > 0 || slices.Contains(s.reads, "now")
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
		_, bad := errors.AsType[*query.BadValue](err)
		_, large := errors.AsType[*query.TooLarge](err)
		if bad || large {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
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
		rt.scope = rt.scope.with(l.Name, value)
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
	out = append(out, rt.cancels()...)
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

// cancels makes the messages that withdraw steps of older events. Of a step that
// the route has itself, or cancels under several keys, there are several; their
// Item tells them apart.
func (rt *routeRun) cancels() []dispatch.Message {
	seen := map[string]bool{}
	for _, s := range rt.route.steps {
		seen[s.name] = true
	}
	type one struct{ step, key string }
	made := map[one]bool{}
	var out []dispatch.Message
	for _, c := range rt.route.cancels {
		key, err := businessKey(c.key, rt.scope)
		for _, step := range c.steps {
			this := one{step, cmp.Or(key, "? "+c.key.source)}
			if made[this] {
				continue
			}
			made[this] = true
			m := dispatch.Message{Route: rt.route.name, Step: step, Terms: &dispatch.Terms{Freeze: true, Supersedes: key}}
			if seen[step] {
				m.Item = "cancels " + this.key
			}
			seen[step] = true
			if err != nil {
				m.Refused = "cancels: " + err.Error()
			} else {
				m.Skip = "cancels what older events have left of this step"
			}
			out = append(out, m)
		}
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
	case int:
		key = strconv.Itoa(v)
	case float64:
		if key = strconv.FormatFloat(v, 'f', -1, 64); math.Abs(v) >= 1<<53 {
			// Two numbers may be one as floating point.
			exact, _ := sc.at(x.bare())
			n, ok := exact.(render.Number)
			if !ok {
				return "", fmt.Errorf("the key %s is a number too large to be computed with; have the lookup make it a text", x.source)
			}
			key = n.String()
		}
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

// noWriter leaves every field its template.
var noWriter Writer = (*openai.Client)(nil)
