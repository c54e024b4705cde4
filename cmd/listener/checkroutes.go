package main

import (
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
)

// readRoutes reads the routes file, whatever is wrong with the rest.
func (c *checkup) readRoutes() {
	if c.noRoutes {
		c.looked("routes", "not checked")
		return
	}
	if c.path = routesPath(c.cfg); c.path == "" {
		c.looked("routes", "none: there is no %s, and OUTBOX_ROUTES is not set", defaultRoutes)
		return
	}
	r, err := loadRoutes(c.path, c.settings)
	if err != nil {
		c.fileProblems(err)
		c.looked("routes", "%s: cannot be used", c.path)
		return
	}
	c.routes = r
	c.looked("routes", "%s: %s", c.path, r.Summary())
	// No warning: texts often have something else for a variable that is not set.
	var unset []string
	for _, name := range r.Variables() {
		if f, err := c.settings.find(&variable{name: name}); err != nil || f.value == "" {
			unset = append(unset, name)
		}
	}
	if len(unset) > 0 {
		c.looked("variables", "not set, and empty in texts: %s", strings.Join(unset, ", "))
	}
}

// exposed warns of secrets that any text may send.
func (c *checkup) exposed() {
	if c.routes == nil {
		return
	}
	secrets := map[string]string{}
	for _, v := range variables {
		if v.secret {
			secrets[v.name] = "a secret of the listener"
		}
	}
	for _, u := range c.routes.CredentialUses() {
		for _, name := range u.Variables {
			secrets[name] = "part of the credential " + u.Name
		}
	}
	for _, e := range c.routes.Exposed() {
		if what := secrets[e.Name]; what != "" {
			c.warnAt(e.Place, "expose_env lists %s, %s, so that any text may send it; leave it out", e.Name, what)
		}
	}
}

// channels notes the channels that routes use and that are not configured: one
// problem each, at the first step.
func (c *checkup) channels() {
	if c.routes == nil {
		return
	}
	steps := map[dispatch.Channel][]routes.ChannelUse{}
	var order []dispatch.Channel
	for _, u := range c.routes.Channels() {
		if steps[u.Channel] == nil {
			order = append(order, u.Channel)
		}
		steps[u.Channel] = append(steps[u.Channel], u)
	}
	for _, ch := range order {
		missing := c.cfg.missing(ch)
		if len(missing) == 0 {
			continue
		}
		first, more := steps[ch][0], ""
		if n := len(steps[ch]) - 1; n > 0 {
			more = ", as " + counted(n, "other step") + " of this channel"
		}
		say := c.problemAt
		if c.cmd.Offline { // as in a CI that has the routes and a database, and no keys
			say = c.warnAt
		}
		say(first.Place, "the step %s would be skipped%s: %s is not configured; missing: %s", first.Step, more, ch, strings.Join(missing, ", "))
	}
	if c.routes.UsesCopy() && len(c.cfg.missing(dispatch.ChannelOpenAI)) > 0 {
		c.looked("copy", "by templates, since OPENAI_API_KEY is not set")
	}
}

// keys warns of steps that may cancel what another route is to send, and of those
// that have nothing to cancel.
func (c *checkup) keys() {
	if c.routes == nil {
		return
	}
	for _, k := range c.routes.SharedKeys() {
		c.warnAt(k.Place, "the step %s supersedes that of the route %s too, whose key is %s (line %d); if they are about different things, give the steps different names, or say in the key what it is about",
			k.Step, k.Other, k.OtherKey, k.OtherLine)
	}
	for _, k := range c.routes.IdleCancels() {
		c.warnAt(k.Place, "there is no step %q with supersedes, so that this cancels nothing but what an earlier file has left", k.Step)
	}
}

// fallbacks warns of steps that are sent for SMS that did not arrive, where nobody says
// that one did not.
func (c *checkup) fallbacks() {
	if c.routes == nil || c.cfg.Twilio.Callback != "" {
		return
	}
	for _, f := range c.routes.Fallbacks() {
		c.warnAt(f.Place, "the step %s is sent only where Twilio refuses %s: whether an SMS arrived is not reported without OUTBOX_TWILIO_CALLBACK_URL", f.Step, f.InsteadOf)
	}
}

// columns compares the columns that texts use with those that lookups have, by
// route and lookup.
func (c *checkup) columns(known map[[2]string][]string) {
	for _, u := range c.routes.Uses() {
		columns, ok := known[[2]string{u.Route, u.Lookup}]
		if !ok {
			continue // its statement is at fault, which was said
		}
		switch n := occurrences(columns, u.Column); {
		case n == 0:
			c.problemAt(u.Place, "the lookup %s has no column %q; %sit has %s", u.Lookup, u.Column, meant(u.Column, columns), strings.Join(columns, ", "))
		case n > 1:
			c.warnAt(u.Place, "the lookup %s has %d columns %q, of which the last counts; name the others with as", u.Lookup, n, u.Column)
		}
	}
}

func occurrences(list []string, word string) int {
	n := 0
	for _, w := range list {
		if w == word {
			n++
		}
	}
	return n
}

// meant asks whether one of known was meant, where one is near.
func meant(word string, known []string) string {
	if n := near(word, known); n != "" {
		return "did you mean \"" + n + "\"? "
	}
	return ""
}

// near is the one of known that is nearest to word, "" where none is near.
func near(word string, known []string) string {
	all := slices.Clone(known)
	slices.SortStableFunc(all, func(a, b string) int { return distance(word, a) - distance(word, b) })
	if len(all) == 0 || distance(word, all[0]) > max(1, len(word)/3) {
		return ""
	}
	return all[0]
}
