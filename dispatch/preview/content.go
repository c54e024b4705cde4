package preview

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/calendar"
	"github.com/outbox-listener/outbox-listener/dispatch/plaintext"
)

// content fills in what m sends. What is not what its channel has is shown as it
// is.
func (d *Delivery) content(m *dispatch.Message) {
	switch m.Channel {
	case dispatch.ChannelSMS:
		if c, err := dispatch.ReadContent[dispatch.SMS](m); err == nil {
			d.SMS = &SMS{From: c.From, Body: lines(c.Body)}
			d.SMS.Encoding, d.SMS.Units, d.SMS.Segments = dispatch.Segments(c.Body)
			return
		}
	case dispatch.ChannelEmail:
		if c, err := dispatch.ReadContent[dispatch.Email](m); err == nil {
			d.Email = email(c)
			return
		}
	case dispatch.ChannelWebhook:
		if c, err := dispatch.ReadContent[dispatch.Webhook](m); err == nil {
			d.Webhook = &Webhook{URL: c.URL, Headers: c.Headers, Body: body(c.Body)}
			return
		}
	case dispatch.ChannelHTTP:
		if c, err := dispatch.ReadContent[dispatch.HTTP](m); err == nil {
			d.HTTP = &HTTP{
				Method: c.Method, URL: c.URL, Headers: c.Headers, Credential: c.Credential, Success: c.Success,
				Idempotent: c.Idempotent, IdempotencyKey: c.IdempotencyKey, Save: c.Save, Body: body(c.Body),
			}
			return
		}
	case dispatch.ChannelSQL:
		if c, err := dispatch.ReadContent[dispatch.SQL](m); err == nil {
			d.SQL = &SQL{Statement: lines(c.Statement), Args: c.Args}
			if c.Args == nil {
				d.SQL.Args = []*string{}
			}
			return
		}
	case dispatch.ChannelOpenAI:
		if c, err := dispatch.ReadContent[dispatch.Prompt](m); err == nil {
			d.OpenAI = &Prompt{Model: c.Model, Instructions: lines(c.Instructions), Input: lines(c.Input), Fields: c.Fields}
			return
		}
	}
	d.Content = m.Content
}

func email(c dispatch.Email) *Email {
	out := &Email{
		To: c.To, Cc: c.Cc, Bcc: c.Bcc, ReplyTo: c.ReplyTo, Headers: c.Headers,
		Subject: c.Subject, Text: lines(c.Text), HTML: lines(c.HTML),
	}
	if strings.TrimSpace(c.Text) == "" {
		out.FromHTML = lines(plaintext.FromHTML(c.HTML))
	}
	for _, a := range c.Attachments {
		one := Attachment{Name: a.Name, Type: a.Type, Bytes: len(a.Content)}
		if utf8.Valid(a.Content) && bytes.IndexByte(a.Content, 0) < 0 {
			one.Text = lines(string(a.Content))
		}
		out.Attachments = append(out.Attachments, one)
	}
	if c.Invite != nil {
		out.Invite = invite(c.Invite)
	}
	return out
}

// invite has the facts of a calendar. One that an application wrote by itself
// may be beyond us; then it is shown as it is.
func invite(i *dispatch.Invite) *Invite {
	e, err := calendar.Read(i.Calendar)
	if err != nil {
		return &Invite{Method: i.Method, Description: lines(i.Calendar), Attendees: []Person{}}
	}
	out := &Invite{
		Method: i.Method, UID: e.UID, Sequence: e.Sequence, Start: e.Start, End: e.End, Summary: e.Summary,
		Location: e.Location, Description: lines(e.Description), URL: e.URL, Organizer: Person(e.Organizer), Attendees: []Person{},
	}
	for _, p := range e.Attendees {
		out.Attendees = append(out.Attendees, Person(p))
	}
	return out
}

func body(text string) Body {
	if raw := json.RawMessage(text); len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') && json.Valid(raw) {
		return Body{JSON: raw}
	}
	return Body{Text: lines(text)}
}
