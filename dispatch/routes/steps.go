package routes

import (
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// defaultDeadline is how late a step with an at may still be sent.
const defaultDeadline = time.Hour

type compiledStep struct {
	name       string
	channel    dispatch.Channel
	when       *condition
	forEach    *expression
	at         *moment
	deadline   time.Duration // 0: none
	retry      dispatch.Retries
	optional   bool
	supersedes *expression
	after      []string
	insteadOf  string // the step for whose failure it is; "": none

	content content
	reads   []string // the names that its texts and conditions read, for what is rendered later
	fields  []string // what it reads of copy
}

// content makes what is sent.
type content interface {
	// recipient is whom it goes to: "" on a channel that has none. skip says why
	// it goes to nobody.
	recipient(r *rendering) (to, skip string, err error)

	// make returns a dispatch.SMS, dispatch.Email, …, which is valid.
	make(r *rendering) (v any, skip string, err error)
}

// steps compiles what r delivers.
func (c *compiler) steps(r *route, n known) {
	once := c.once("a second step named %q in this route; the first is at line %d; give each a name of its own")
	for i := range r.Deliver {
		once(r.Deliver[i].Name)
	}
	for i := range r.Deliver {
		c.step(r, i, n)
	}
	c.fallbacks(r)
}

func (c *compiler) step(r *route, i int, n known) {
	s := &r.Deliver[i]
	out := &compiledStep{name: s.Name.value, deadline: s.Deadline.of, optional: s.Required != nil && !*s.Required}
	c.route.steps = append(c.route.steps, out)

	c.reads, c.fields = nil, nil
	routeNames := n
	if s.ForEach.node != nil {
		out.forEach = c.expression(s.ForEach, n)
		n = n.with("item", value{kind: anything})
	}
	for _, a := range s.After {
		if a.node == nil {
			continue
		}
		earlier := slices.IndexFunc(r.Deliver, func(o step) bool { return o.Name.value == a.value })
		switch {
		case earlier < 0:
			c.f.add(a.node, "there is no step %q in this route; there are %s", a.value, listed(stepNames(r.Deliver[:i])))
		case earlier == i:
			c.f.add(a.node, "the step %q cannot wait for itself", a.value)
		case earlier > i:
			c.f.add(a.node, "the step %q comes later; a step waits for those above it", a.value)
		}
		out.after = append(out.after, a.value)
	}
	contentNames := n
	if len(out.after) > 0 {
		contentNames = n.with("steps", value{kind: object, keys: out.after, answers: answers(r.Deliver[:i])})
	}
	out.when = c.condition(s.When, contentNames)
	out.at = c.moment(s.At, n)
	if out.at != nil && len(out.after) > 0 {
		c.f.add(s.At.node, "at and after do not go together; leave one of them out")
	}
	if out.at != nil && out.deadline == 0 {
		out.deadline = defaultDeadline
	}
	out.supersedes = c.expression(s.Supersedes, routeNames)
	out.retry = c.retry(s)
	c.contents(s, out, contentNames)
	out.reads, out.fields = c.reads, c.fields
	if out.forEach.readsLet(c.route.lets) || out.supersedes.readsLet(c.route.lets) || out.forEach.reads("copy") || out.supersedes.reads("copy") {
		c.f.add(s.Node, "for_each and supersedes cannot read what let and copy make; use the values that it is made of")
	}
}

// answers are the keys that the answers of steps have, by name; steps of other
// channels than http and openai have what their providers say.
func answers(steps []step) map[string][]string {
	out := map[string][]string{}
	for _, s := range steps {
		switch {
		case s.HTTP != nil:
			keys := []string{}
			for _, k := range s.HTTP.Save {
				keys = append(keys, k.name.value)
			}
			out[s.Name.value] = keys
		case s.OpenAI != nil:
			keys := []string{}
			for _, k := range s.OpenAI.Fields {
				keys = append(keys, k.name.value)
			}
			if len(keys) == 0 {
				keys = append(keys, "text")
			}
			out[s.Name.value] = keys
		}
	}
	return out
}

func stepNames(steps []step) []string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Name.value)
	}
	return out
}

func (c *compiler) retry(s *step) dispatch.Retries {
	d := c.r.file.Defaults.Retry
	pick := func(own, all span) time.Duration {
		if own.node != nil {
			return own.of
		}
		return all.of
	}
	out := dispatch.Retries{Attempts: s.Retry.Attempts, First: pick(s.Retry.First, d.First), Longest: pick(s.Retry.Longest, d.Longest)}
	if out.Attempts == 0 {
		out.Attempts = d.Attempts
	}
	// decode has held both to words that are known.
	out.OnUnknown = dispatch.OnUnknown(s.OnUncertain.value)
	out.IfNotFound = dispatch.OnUnknown(s.IfNotFound.value)
	return out
}

// uncertain checks what s says about a delivery that nobody knows the outcome of.
func (c *compiler) uncertain(s *step, ch dispatch.Channel) {
	asked := s.OnUncertain.value == string(dispatch.Reconcile)
	switch {
	case s.OnUncertain.node == nil:
		asked = true // what suits sms
	case ch == dispatch.ChannelSQL || ch == dispatch.ChannelLog:
		c.f.add(s.OnUncertain.node, "on_uncertain has no meaning for %s, which is never uncertain; leave it out", ch)
		return
	case asked && ch != dispatch.ChannelSMS:
		c.f.add(s.OnUncertain.node, "on_uncertain: reconcile is for sms, whose provider can be asked; for %s take resend, hold or never_twice", ch)
		return
	}
	if s.IfNotFound.node != nil && (ch != dispatch.ChannelSMS || !asked) {
		c.f.add(s.IfNotFound.node, "if_not_found goes with sms and on_uncertain: reconcile alone; leave it out")
	}
}

// contents compiles the one channel of s.
func (c *compiler) contents(s *step, out *compiledStep, n known) {
	var channels []string
	add := func(ch dispatch.Channel, there bool, make func() content) {
		if !there {
			return
		}
		if channels = append(channels, string(ch)); len(channels) == 1 {
			out.channel, out.content = ch, make()
		}
	}
	add(dispatch.ChannelSMS, s.SMS != nil, func() content { return c.sms(s.SMS, n) })
	add(dispatch.ChannelEmail, s.Email != nil, func() content { return c.email(s.Email, n) })
	add(dispatch.ChannelWebhook, s.Webhook != nil, func() content { return c.webhook(s.Webhook, n) })
	add(dispatch.ChannelHTTP, s.HTTP != nil, func() content { return c.http(s.HTTP, n) })
	add(dispatch.ChannelSQL, s.SQL.node != nil, func() content { return c.sql(s, n) })
	add(dispatch.ChannelOpenAI, s.OpenAI != nil, func() content { return c.prompt(s.OpenAI, n) })
	add(dispatch.ChannelLog, s.Log != nil, func() content { return c.logLine(s.Log, n) })
	if len(channels) == 0 {
		return // which decode has said
	}
	c.uncertain(s, out.channel)
	use := ChannelUse{Route: c.route.name, Step: out.name, Channel: out.channel}
	if s.HTTP != nil {
		use.Credential = s.HTTP.Credential.value
		use.Exposed = c.goesAnywhere(use.Credential) && c.eventNamesHost(s.HTTP.URL)
	}
	if s.Node != nil {
		use.Place = Place{s.Node.line, s.Node.column}
	}
	c.r.channels = append(c.r.channels, use)
}

// note remembers that the step that is being compiled reads a name.
func (c *compiler) note(root string) {
	if !slices.Contains(c.reads, root) {
		c.reads = append(c.reads, root)
	}
}

// noteCopy remembers which fields of copy a path has, all where it has copy itself.
func (c *compiler) noteCopy(n known, path []string) {
	switch {
	case path[0] != "copy":
	case len(path) > 1:
		c.noteField(path[1])
	default:
		for _, f := range n["copy"].keys {
			c.noteField(f)
		}
	}
}

// noteField remembers that it reads a field of copy.
func (c *compiler) noteField(field string) {
	if !slices.Contains(c.fields, field) {
		c.fields = append(c.fields, field)
	}
}
