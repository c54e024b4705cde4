package routes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
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
		Freeze: true, Optional: s.optional, Retry: s.retry, After: s.after, InsteadOf: s.insteadOf,
	}}
}

// noWriter leaves every field its template.
var noWriter Writer = (*openai.Client)(nil)
