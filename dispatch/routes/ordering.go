package routes

import (
	"fmt"
	"slices"
	"strings"
)

// maxOrderingKey is how long an ordering key may be, in bytes.
const maxOrderingKey = 200

// ordering compiles the ordering_key of r, which may read n.
func (c *compiler) ordering(r *route, n known) {
	if r.Ordering.node == nil {
		return
	}
	c.route.ordering = c.template(r.Ordering, "ordering_key", n, false)
	switch {
	case !strings.Contains(r.Ordering.value, "{{"):
		c.f.add(r.Ordering.node, "ordering_key is the same for every event, so that one would wait for all; name what is to be in order, as in {{.payload.id}}")
	case len(r.Deliver) > 0 && !slices.ContainsFunc(r.Deliver, func(s step) bool { return s.At.node == nil }):
		c.f.add(r.Ordering.node, "ordering_key puts nothing in order, since every step has at, and what is for later is outside of the order; leave it out")
	case len(r.Deliver) == 0 && len(r.Cancels) > 0:
		c.f.add(r.Ordering.node, "ordering_key puts nothing in order, since the route delivers nothing; leave it out")
	}
	for _, e := range r.Event {
		if e.node != nil && !slices.Contains(c.r.ordered, e.value) {
			c.r.ordered = append(c.r.ordered, e.value)
		}
	}
}

// orderingKey is the key that the event has in this route.
func (rt *routeRun) orderingKey() (string, error) {
	r := &rendering{route: rt, scope: rt.scope, created: rt.plan.event.CreatedAt}
	key, err := r.text(rt.route.ordering)
	if err != nil {
		return "", err
	}
	if key = strings.TrimSpace(key); key == "" || len(key) > maxOrderingKey {
		return "", fmt.Errorf("ordering_key: it has to be a text of 1 to %d bytes, and has %d", maxOrderingKey, len(key))
	}
	return key, nil
}
