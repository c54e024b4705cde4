package routes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// rendering makes the texts of one delivery.
type rendering struct {
	route   *routeRun
	scope   *scope
	created time.Time // the event's
	to      string    // the recipient, once there is one
}

// text executes t, with what it reads of let and copy; "" where t is nil.
func (r *rendering) text(t *template) (string, error) {
	if t == nil {
		return "", nil
	}
	sc, err := r.seeing(t.roots, t.fields)
	if err != nil {
		return "", err
	}
	s, err := t.Execute(sc.values)
	if e, ok := err.(*render.Error); ok {
		return "", fmt.Errorf("%s: %s", t.label, e.Message)
	}
	return s, err
}

// seeing is the scope with those of names that let and copy make, of copy the
// fields. What the scope has already stays, as in a step that is rendered later.
func (r *rendering) seeing(names, fields []string) (*scope, error) {
	sc := r.scope
	for _, name := range names {
		if _, there := sc.values[name]; there {
			continue
		}
		v, ok, err := r.route.derived(name, fields)
		if err != nil {
			return nil, err
		}
		if ok {
			sc = sc.with(name, v)
		}
	}
	return sc, nil
}

// into is a text with the template that it is made by.
type into struct {
	text *string
	tmpl *template
}

func (r *rendering) fill(all ...into) error {
	for _, one := range all {
		s, err := r.text(one.tmpl)
		if err != nil {
			return err
		}
		*one.text = s
	}
	return nil
}

// needed executes the template of a recipient. Without one there is nothing to
// send.
func (r *rendering) needed(t *template) (to, skip string, err error) {
	to, err = r.text(t)
	if to = strings.TrimSpace(to); to == "" && err == nil {
		return "", fmt.Sprintf("nobody to send to: %s is empty", t.label), nil
	}
	return to, "", err
}

// holds asks a condition, which may read what let and copy make.
func (r *rendering) holds(c *condition) (bool, string, error) {
	var names []string
	c.roots(func(name string) { names = append(names, name) })
	sc, err := r.seeing(names, r.route.route.copy.names())
	if err != nil {
		return false, "", err
	}
	return c.holds(sc)
}

// derived is what let or copy make under name, of copy the fields; false where
// neither does.
func (rt *routeRun) derived(name string, fields []string) (v any, ok bool, err error) {
	switch {
	case rt.isLet(name):
		v, err = rt.let(name)
		return v, true, err
	case name == "copy" && rt.route.copy != nil:
		texts := map[string]any{}
		for _, f := range fields {
			if texts[f], err = rt.copyText(f); err != nil {
				return nil, true, err
			}
		}
		return texts, true, nil
	}
	return nil, false, nil
}

func (rt *routeRun) isLet(name string) bool {
	return slices.ContainsFunc(rt.route.lets, func(l let) bool { return l.name == name })
}

// let is the text of a let, made when the first one asks.
func (rt *routeRun) let(name string) (string, error) {
	if t, ok := rt.lets[name]; ok {
		return t.text, t.err
	}
	i := slices.IndexFunc(rt.route.lets, func(l let) bool { return l.name == name })
	var t letText
	t.text, t.err = (&rendering{route: rt, scope: rt.scope}).text(rt.route.lets[i].tmpl)
	if rt.lets == nil {
		rt.lets = map[string]letText{}
	}
	rt.lets[name] = t
	return t.text, t.err
}

// arguments are the values of parameters. missing says which one the payload
// does not have, where one is needed.
func (r *rendering) arguments(all []argument, needed bool) (args map[string]json.RawMessage, missing string, err error) {
	args = map[string]json.RawMessage{}
	for _, a := range all {
		sc, err := r.seeing(a.path[:1], a.path[1:min(2, len(a.path))])
		if err != nil {
			return nil, "", err
		}
		v, ok := sc.at(a.path)
		_, null := v.(render.Null)
		switch {
		case a.payload && (!ok || null) && needed && !a.Optional:
			return nil, fmt.Sprintf("the payload has no %q", strings.Join(a.path[1:], ".")), nil
		case !a.payload && !ok && !a.Optional && r.within(a.path):
			return nil, "", fmt.Errorf("there is no %s", strings.Join(a.path, "."))
		case !ok:
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, "", err
		}
		args[a.Name()] = raw
	}
	return args, "", nil
}

// within reports whether what stands around path is there, so that its last key
// is the one that is missing. Within null everything is.
func (r *rendering) within(path []string) bool {
	v, ok := r.scope.at(path[:len(path)-1])
	_, null := v.(render.Null)
	return ok && !null
}

// Render gives m, which waited for other steps, its content.
func (r *Routes) Render(ctx context.Context, m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
	var route *compiledRoute
	var s *compiledStep
	for _, c := range r.list {
		for _, one := range c.steps {
			if c.name == m.Route && one.name == m.Step {
				route, s = c, one
			}
		}
	}
	if s == nil || s.channel != m.Channel {
		m.Refused = fmt.Sprintf("the routes have no step %q of this channel any more, and its content was not rendered yet", m.Step)
		return m, nil
	}
	terms := dispatch.Terms{}
	if m.Terms != nil {
		terms = *m.Terms
	}
	m.Terms = &terms
	kept, err := render.Decode(terms.Scope)
	values, ok := kept.(map[string]any)
	if err != nil || !ok {
		m.Refused = "what it is rendered from cannot be read"
		return m, nil
	}
	for _, name := range terms.After {
		if result, known := steps[name]; known && result.State != dispatch.Delivered {
			m.Skip = fmt.Sprintf("the step %s before it was not delivered (%s)", name, result.State)
			return m, nil
		}
	}
	for _, name := range s.after {
		if _, known := steps[name]; !known || !slices.Contains(terms.After, name) {
			m.Refused = fmt.Sprintf("the routes have it wait for the step %s, and they did not when it was planned", name)
			return m, nil
		}
	}
	answers := map[string]any{}
	for _, name := range terms.After {
		result := steps[name]
		answers[name] = map[string]any{}
		if len(result.Answer) > 0 {
			if answers[name], err = render.Decode(result.Answer); err != nil {
				m.Refused = fmt.Sprintf("the answer of the step %s cannot be read", name)
				return m, nil
			}
		}
	}
	values["steps"] = answers
	rt := &routeRun{plan: &plan{ctx: ctx, writer: noWriter}, route: route, scope: &scope{values: values, isRow: map[string]bool{}}}
	for _, l := range route.lookups {
		rt.scope.isRow[l.Name] = l.kind != "many"
	}
	made := &rendering{route: rt, scope: rt.scope}
	if at, ok := rt.scope.at([]string{"event", "created_at"}); ok {
		if made.created, err = render.Moment(at); err != nil {
			m.Refused = "what it is rendered from has no time"
			return m, nil
		}
		rt.scope.now = made.created
	}
	if now, ok := values["now"]; ok { // that of the plan, as for all steps
		if rt.scope.now, err = render.Moment(now); err != nil {
			m.Refused = "what it is rendered from has no time"
			return m, nil
		}
		delete(values, "now")
	}
	if s.when.reads("steps") && !made.decide(&m, s) {
		return m, nil
	}
	copied := terms.Copy
	made.content(&m, s)
	m.Terms.Copy = copied
	return m, nil
}
