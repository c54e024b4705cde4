package routes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/calendar"
	"github.com/outbox-listener/outbox-listener/dispatch/plaintext"
)

type emailContent struct {
	to, cc, bcc   []*template
	replyTo       *template
	subject, text *template
	html          *template
	headers       named
	attachments   []attachmentContent
	invite        *inviteContent
}

type attachmentContent struct {
	name, text *template
	media      string
}

type inviteContent struct {
	when       *condition
	method     string
	uid        *template
	sequence   *template
	start, end *moment
	duration   *template

	summary, location, description, url *template

	organizer personContent
	attendees []personContent
}

type personContent struct{ name, address *template }

func (c *compiler) email(m *email, n known) content {
	out := &emailContent{
		to: c.list(m.To, "to", n), cc: c.list(m.Cc, "cc", n), bcc: c.list(m.Bcc, "bcc", n),
		replyTo: c.template(m.ReplyTo, "reply_to", n, false),
		subject: c.template(m.Subject, "subject", n, false),
		text:    c.template(m.Text, "text", n, false),
		html:    c.template(m.HTML, "html", n, true),
		headers: c.named(m.Headers, "headers", n),
	}
	if out.subject != nil && c.route.copy != nil {
		c.route.copy.single(out.subject.fields)
	}
	if m.Text.node == nil && m.HTML.node == nil && m.Node != nil {
		c.f.add(m.Node, "the e-mail has neither text nor html; needed is at least one of them")
	}
	probe := dispatch.Email{To: []string{"a@example.com"}, Subject: "x", Text: "x", Headers: out.headers.probe()}
	if err := probe.Validate(); err != nil {
		c.f.add(m.Node, "%s", err)
	}
	for _, a := range m.Attachments {
		out.attachments = append(out.attachments, attachmentContent{
			name: c.template(a.Name, "attachments name", n, false), text: c.template(a.Text, "attachments text", n, false), media: a.Type.value,
		})
	}
	if m.Invite != nil {
		out.invite = c.invite(m.Invite, n)
	}
	return out
}

func (c *compiler) invite(i *invite, n known) *inviteContent {
	text := func(t text, key string) *template { return c.template(t, "invite "+key, n, false) }
	person := func(p person, key string) personContent {
		return personContent{text(p.Name, key+" name"), text(p.Address, key+" address")}
	}
	out := &inviteContent{
		when: c.condition(i.When, n), method: i.Method.value,
		uid: text(i.UID, "uid"), sequence: text(i.Sequence, "sequence"),
		start: c.moment(i.Start, n), end: c.moment(i.End, n), duration: text(i.Duration, "duration"),
		summary: text(i.Summary, "summary"), location: text(i.Location, "location"),
		description: text(i.Description, "description"), url: text(i.URL, "url"),
		organizer: person(i.Organizer, "organizer"),
	}
	for _, p := range i.Attendees {
		out.attendees = append(out.attendees, person(p, "attendees"))
	}
	if (i.End.node == nil) == (i.Duration.node == nil) && i.Node != nil {
		c.f.add(i.Node, "the invite needs one of end and duration")
	}
	if d := strings.TrimSpace(i.Duration.value); i.Duration.node != nil && !strings.Contains(d, "{{") {
		if _, ok := duration(d); !ok {
			c.f.add(i.Duration.node, "the duration %q is not one such as 90m, 1h30m or 1d", shortened(d))
		}
	}
	return out
}

// addresses executes ts and leaves out what is empty.
func (r *rendering) addresses(ts []*template) ([]string, error) {
	var out []string
	for _, t := range ts {
		s, err := r.text(t)
		if err != nil {
			return nil, err
		}
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

func (e *emailContent) recipient(r *rendering) (string, string, error) {
	to, err := r.addresses(e.to)
	if err != nil {
		return "", "", err
	}
	if len(to) == 0 {
		return "", "nobody to send to: to is empty", nil
	}
	return dispatch.Addr(to[0]), "", nil
}

func (e *emailContent) make(r *rendering) (any, string, error) {
	var m dispatch.Email
	var err error
	for _, f := range []struct {
		into *[]string
		from []*template
	}{{&m.To, e.to}, {&m.Cc, e.cc}, {&m.Bcc, e.bcc}} {
		if *f.into, err = r.addresses(f.from); err != nil {
			return nil, "", err
		}
	}
	err = r.fill(into{&m.ReplyTo, e.replyTo}, into{&m.Subject, e.subject}, into{&m.Text, e.text}, into{&m.HTML, e.html})
	if err != nil {
		return nil, "", err
	}
	m.Subject = strings.TrimSpace(m.Subject)
	if strings.TrimSpace(m.Text) == "" {
		m.Text = plaintext.FromHTML(m.HTML) // here, so that it is frozen with the rest
	}
	if m.Headers, err = e.headers.texts(r); err != nil {
		return nil, "", err
	}
	for _, a := range e.attachments {
		one := dispatch.Attachment{Type: a.media}
		var content string
		if err := r.fill(into{&one.Name, a.name}, into{&content, a.text}); err != nil {
			return nil, "", err
		}
		one.Content = []byte(content)
		m.Attachments = append(m.Attachments, one)
	}
	if e.invite != nil {
		if m.Invite, err = e.invite.make(r, m.To); err != nil {
			return nil, "", fmt.Errorf("invite: %w", err)
		}
	}
	return m, "", m.Validate()
}

// make returns nil where there is nothing to invite to.
func (i *inviteContent) make(r *rendering, to []string) (*dispatch.Invite, error) {
	if ok, _, err := r.holds(i.when); !ok || err != nil {
		return nil, err
	}
	ev := calendar.Event{Method: i.method, Stamp: r.created}
	if ev.Method == "" {
		ev.Method = calendar.Request
	}
	start, missing, err := i.start.of(r.scope)
	if missing != "" || err != nil {
		return nil, err
	}
	ev.Start = start
	var sequence, length string
	err = r.fill(into{&ev.UID, i.uid}, into{&sequence, i.sequence}, into{&length, i.duration}, into{&ev.Summary, i.summary},
		into{&ev.Location, i.location}, into{&ev.Description, i.description}, into{&ev.URL, i.url})
	if err != nil {
		return nil, err
	}
	if sequence = strings.TrimSpace(sequence); sequence != "" {
		if ev.Sequence, err = strconv.Atoi(sequence); err != nil || ev.Sequence < 0 {
			return nil, errors.New("the sequence is not a whole number from 0")
		}
	}
	if i.end != nil {
		end, missing, err := i.end.of(r.scope)
		if err == nil && missing != "" {
			err = fmt.Errorf("there is no end: %s", missing)
		}
		if err != nil {
			return nil, err
		}
		ev.End = end
	} else {
		d, ok := duration(strings.TrimSpace(length))
		if !ok {
			return nil, errors.New("the duration is not one such as 90m")
		}
		ev.End = start.Add(d)
	}
	if ev.Organizer, err = i.organizer.make(r); err != nil {
		return nil, err
	}
	for _, p := range i.attendees {
		one, err := p.make(r)
		if err != nil {
			return nil, err
		}
		if one.Address != "" {
			ev.Attendees = append(ev.Attendees, one)
		}
	}
	if len(i.attendees) == 0 {
		for _, a := range to {
			ev.Attendees = append(ev.Attendees, calendar.Person{Address: dispatch.Addr(a)})
		}
	}
	text, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	return &dispatch.Invite{Method: ev.Method, Calendar: text}, nil
}

func (p personContent) make(r *rendering) (out calendar.Person, err error) {
	err = r.fill(into{&out.Name, p.name}, into{&out.Address, p.address})
	// An address may have a name around it, as SMTP_FROM often does.
	out.Address = dispatch.Addr(strings.TrimSpace(out.Address))
	return out, err
}
