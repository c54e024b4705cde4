package routes

import "slices"

// Fallback is a step that is sent where an SMS does not arrive.
type Fallback struct {
	Route, Step string
	InsteadOf   string // the step of the SMS
	Place              // where that says so
}

// Fallbacks are the steps that are sent for others, in the order of the file.
func (r *Routes) Fallbacks() []Fallback {
	var out []Fallback
	for _, route := range r.file.Routes {
		for _, s := range route.Deliver {
			if n := s.IfUndelivered.node; n != nil {
				out = append(out, Fallback{route.Name.value, s.IfUndelivered.value, s.Name.value, Place{n.line, n.column}})
			}
		}
	}
	return out
}

// fallbacks has each step that if_undelivered names wait for the step that names it.
// The two are about the same, so that the one has the other's time and business key
// where it has none of its own.
func (c *compiler) fallbacks(r *route) {
	find := func(name string) int {
		return slices.IndexFunc(r.Deliver, func(s step) bool { return s.Name.value == name })
	}
	for i := range r.Deliver {
		s := &r.Deliver[i]
		at := s.IfUndelivered.node
		if at == nil {
			continue
		}
		to := find(s.IfUndelivered.value)
		switch {
		case s.SMS == nil:
			c.f.add(at, "if_undelivered goes with sms alone, of which Twilio reports whether it arrived; leave it out")
			continue
		case to < 0:
			c.f.add(at, "there is no step %q in this route; there are %s", s.IfUndelivered.value, listed(stepNames(r.Deliver)))
			continue
		case to == i:
			c.f.add(at, "the step %q cannot be sent in its own place; name another step", s.Name.value)
			continue
		}
		other := &r.Deliver[to]
		for seen, k := 0, to; seen <= len(r.Deliver); seen++ {
			if k = find(r.Deliver[k].IfUndelivered.value); k < 0 {
				break
			}
			if k == i {
				c.f.add(at, "the steps %q and %q would wait for each other; one of them has to be sent by itself", s.Name.value, other.Name.value)
				return
			}
		}
		fallback := c.route.steps[to]
		if fallback.insteadOf != "" {
			c.f.add(at, "the step %q is sent in the place of %q already; give each its own step", other.Name.value, fallback.insteadOf)
			continue
		}
		for _, one := range []struct {
			node *node
			key  string
		}{{s.ForEach.node, "for_each"}, {other.ForEach.node, "for_each"}} {
			if one.node != nil {
				c.f.add(one.node, "for_each and if_undelivered do not go together: it could not be said for which of them the step %q is sent", other.Name.value)
			}
		}
		if other.At.node != nil {
			c.f.add(other.At.node, "the step %q is sent when %q is known not to have arrived; leave at out, and say with deadline until when", other.Name.value, s.Name.value)
		}
		if len(other.After) > 0 && other.After[0].node != nil {
			c.f.add(other.After[0].node, "the step %q is sent when %q is known not to have arrived, and waits for nothing else; leave after out", other.Name.value, s.Name.value)
		}
		fallback.insteadOf, fallback.optional = s.Name.value, true
	}
	for range c.route.steps { // as often as a chain of them may be long
		for _, s := range c.route.steps {
			i := slices.IndexFunc(c.route.steps, func(o *compiledStep) bool { return s.insteadOf != "" && o.name == s.insteadOf })
			if i < 0 {
				continue
			}
			if s.at == nil {
				s.at = c.route.steps[i].at
			}
			if s.supersedes == nil {
				s.supersedes = c.route.steps[i].supersedes
			}
		}
	}
}
