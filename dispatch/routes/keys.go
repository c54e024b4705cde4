package routes

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// SharedKey is a step that supersedes the deliveries of a step of the same name
// in another route, by a key that is written in another way. Where the two are
// about different things whose keys may be equal, they cancel each other's.
type SharedKey struct {
	Route, Step, Key string
	Other, OtherKey  string // the route that comes first, and the key there
	OtherLine        int
	Place            // of the key
}

// SharedKeys are the steps whose business keys might meet those of another route,
// in the order of the file.
func (r *Routes) SharedKeys() []SharedKey {
	type use struct {
		route string
		key   text
	}
	first := map[string]use{}
	var out []SharedKey
	for _, route := range r.file.Routes {
		for _, s := range route.Deliver {
			if s.Supersedes.node == nil {
				continue
			}
			u := use{route.Name.value, s.Supersedes}
			f, known := first[s.Name.value]
			if !known {
				first[s.Name.value] = u
				continue
			}
			if spaceless(f.key.value) == spaceless(u.key.value) {
				continue
			}
			out = append(out, SharedKey{
				Route: u.route, Step: s.Name.value, Key: u.key.value,
				Other: f.route, OtherKey: f.key.value, OtherLine: f.key.node.line,
				Place: Place{u.key.node.line, u.key.node.column},
			})
		}
	}
	return out
}

func spaceless(s string) string { return strings.Join(strings.Fields(s), "") }

// IdleCancel is a step that cancels names and that no route has with a business key.
type IdleCancel struct {
	Step string
	Place
}

// IdleCancels are the steps named under cancels of which this file schedules nothing
// that could be found by a key, in the order of the file. A file from before may have.
func (r *Routes) IdleCancels() []IdleCancel {
	keyed := map[string]bool{}
	for _, route := range r.file.Routes {
		for _, s := range route.Deliver {
			if s.Supersedes.node != nil {
				keyed[s.Name.value] = true
			}
		}
	}
	var out []IdleCancel
	for _, route := range r.file.Routes {
		for _, k := range route.Cancels {
			for _, s := range k.Steps {
				if !keyed[s.value] {
					out = append(out, IdleCancel{s.value, Place{s.node.line, s.node.column}})
				}
			}
		}
	}
	return out
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
