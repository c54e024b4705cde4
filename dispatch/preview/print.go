package preview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Print writes p for people. html has the HTML of e-mails shown too.
func (p *Preview) Print(w io.Writer, html bool) error {
	o := &printer{html: html}
	o.line("%s %s, created %s", p.Event.Type, p.Event.ID, written(p.Event.CreatedAt))
	as := ""
	if !p.Now.IsZero() {
		as = "As of " + written(p.Now) + ". "
	}
	o.line("%sNothing is sent or written. Recipients are shown in full.", as)
	if n := p.Event.OnRecord; n > 0 {
		o.line("The event is on record already, with %s: those are what is sent. This is what it would become now.", counted(n, "delivery", "deliveries"))
	} else if !p.Event.ProcessedAt.IsZero() {
		o.line("The event was processed at %s. This is what it would become now.", written(p.Event.ProcessedAt))
	}
	for i := range p.Deliveries {
		o.line("")
		o.delivery(&p.Deliveries[i])
	}
	o.line("")
	waiting := 0
	for _, d := range p.Deliveries {
		if len(d.WaitsFor) > 0 {
			waiting++
		}
	}
	var tally []string
	for _, t := range []struct {
		n    int
		word string
	}{
		{p.count(dispatch.Ready) - waiting, "ready"}, {waiting, "waiting"}, {p.count(dispatch.Scheduled), "scheduled"},
		{p.count(dispatch.Skipped), "skipped"}, {p.count(dispatch.Expired), "expired"}, {p.Refused(), "refused"},
	} {
		if t.n > 0 {
			tally = append(tally, fmt.Sprintf("%d %s", t.n, t.word))
		}
	}
	o.line("%s: %s", counted(len(p.Deliveries), "delivery", "deliveries"), strings.Join(tally, ", "))
	_, err := w.Write(o.Bytes())
	return err
}

type printer struct {
	bytes.Buffer
	html bool
}

func (o *printer) line(format string, args ...any) {
	o.WriteString(strings.TrimRight(visible(fmt.Sprintf(format, args...)), " ") + "\n")
}

// label is how wide the names of values are.
const label = 12

// value writes one value with its name; nothing where it is empty.
func (o *printer) value(name, text string) {
	if text != "" {
		o.line("  %-*s%s", label, name, text)
	}
}

// text writes a text below its name, each line with a bar before it, so that it
// shows where they begin.
func (o *printer) text(name string, text Lines) {
	if len(text) == 0 {
		return
	}
	o.line("  %s", name)
	if last := len(text) - 1; last > 0 && text[last] == "" { // as most texts end
		text = text[:last]
	}
	for _, l := range text {
		o.line("    | %s", strings.TrimSuffix(l, "\r"))
	}
}

func (o *printer) pairs(name string, pairs map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		o.value(name, k+": "+pairs[k])
		name = ""
	}
}

func (o *printer) delivery(d *Delivery) {
	title := d.Step
	if d.Route != "" {
		title = d.Route + " / " + d.Step
	}
	if d.Channel != "" {
		title += ": " + string(d.Channel)
	}
	if d.Recipient != "" {
		title += " to " + d.Recipient
	}
	if title == "" {
		title = "(no route)"
		if d.State == dispatch.Dead {
			title = "(all of it)"
		}
	}
	o.line("%s", strings.TrimSuffix(title, " / "))
	o.value("state", o.state(d))
	if d.RedirectedTo != "" {
		o.value("redirected", "this system sends it to "+d.RedirectedTo)
	}
	if d.Held != "" {
		o.value("held", d.Held)
	}
	if len(d.Item) > 0 {
		o.value("item", compacted(d.Item))
	}
	if len(d.After) > 0 && len(d.WaitsFor) == 0 {
		o.value("after", strings.Join(d.After, ", "))
	}
	if d.Supersedes != "" {
		o.value("supersedes", "what older events have left of this step under the key "+d.Supersedes)
	}
	if d.Ordering != "" {
		o.value("in order", "after what earlier events have under the key "+d.Ordering)
	}
	if d.Optional {
		o.value("required", "no: the event is processed without it")
	}
	if r := d.Retry; r != nil {
		o.value("retry", r.String())
	}
	for i, c := range d.Copy {
		name := "copy"
		if i > 0 {
			name = ""
		}
		source := c.Source
		if c.Reason != "" {
			source += " (" + c.Reason + ")"
		}
		o.value(name, c.Field+": "+source)
	}
	o.content(d)
}

func (o *printer) state(d *Delivery) string {
	text := string(d.State)
	switch {
	case d.Cancels != "" && d.State == dispatch.Skipped:
		return d.Reason + ", under the key " + d.Cancels
	case d.State == dispatch.Dead:
		text = "refused"
	case d.InsteadOf != "" && d.State == dispatch.Scheduled:
		text = "only if " + d.InsteadOf + " is undelivered"
	case len(d.WaitsFor) > 0:
		text = "waits for " + strings.Join(d.WaitsFor, ", ") + ", from whose answers it is made"
	case !d.At.IsZero() && d.State == dispatch.Scheduled:
		text += " for " + written(d.At)
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	if !d.Deadline.IsZero() && d.State != dispatch.Skipped && d.State != dispatch.Dead {
		text += ", not later than " + written(d.Deadline)
	}
	return text
}

// String is r in a few words.
func (r Retry) String() string {
	var parts []string
	if r.Attempts > 0 {
		parts = append(parts, fmt.Sprintf("at most %d attempts", r.Attempts))
	}
	if r.First != "" {
		parts = append(parts, "first wait up to "+r.First)
	}
	if r.Longest != "" {
		parts = append(parts, "longest wait "+r.Longest)
	}
	if r.OnUncertain != "" {
		parts = append(parts, "on_uncertain "+string(r.OnUncertain))
	}
	if r.IfNotFound != "" {
		parts = append(parts, "if_not_found "+string(r.IfNotFound))
	}
	return strings.Join(parts, ", ")
}

func (o *printer) content(d *Delivery) {
	switch {
	case d.SMS != nil:
		o.value("from", d.SMS.From)
		o.value("length", fmt.Sprintf("%s, %s of %s", counted(d.SMS.Segments, "segment", "segments"), counted(d.SMS.Units, "unit", "units"), d.SMS.Encoding))
		o.text("body", d.SMS.Body)
	case d.Email != nil:
		o.email(d.Email)
	case d.Webhook != nil:
		o.value("request", "POST "+d.Webhook.URL)
		o.pairs("headers", d.Webhook.Headers)
		o.body(d.Webhook.Body)
	case d.HTTP != nil:
		o.http(d.HTTP)
	case d.SQL != nil:
		o.text("statement", d.SQL.Statement)
		for i, a := range d.SQL.Args {
			text := "null"
			if a != nil {
				text = fmt.Sprintf("%q", *a)
			}
			o.value(fmt.Sprintf("$%d", i+1), text)
		}
	case d.OpenAI != nil:
		o.value("model", d.OpenAI.Model)
		for _, f := range slices.Sorted(maps.Keys(d.OpenAI.Fields)) {
			o.value("field", fmt.Sprintf("%s: at most %d characters", f, d.OpenAI.Fields[f]))
		}
		o.text("instructions", d.OpenAI.Instructions)
		o.text("input", d.OpenAI.Input)
	case d.Content != nil:
		o.text("content", indented(d.Content))
	}
}

func (o *printer) email(m *Email) {
	o.value("to", strings.Join(m.To, ", "))
	o.value("cc", strings.Join(m.Cc, ", "))
	o.value("bcc", strings.Join(m.Bcc, ", "))
	o.value("reply_to", m.ReplyTo)
	o.pairs("headers", m.Headers)
	o.value("subject", m.Subject)
	o.text("text", m.Text)
	o.text("text, made from html", m.FromHTML)
	if len(m.HTML) > 0 && o.html {
		o.text("html", m.HTML)
	} else if len(m.HTML) > 0 {
		o.value("html", counted(len(m.HTML), "line", "lines")+", shown with --html")
	}
	for _, a := range m.Attachments {
		o.value("attachment", strings.TrimSuffix(fmt.Sprintf("%s, %s, %s", a.Name, counted(a.Bytes, "byte", "bytes"), a.Type), ", "))
		o.text("content", a.Text)
	}
	if i := m.Invite; i != nil {
		o.value("invite", fmt.Sprintf("%s, uid %s, sequence %d", i.Method, i.UID, i.Sequence))
		o.value("", written(i.Start)+" to "+written(i.End))
		o.value("", i.Summary)
		o.value("", i.Location)
		o.value("", i.URL)
		o.value("", "organizer: "+i.Organizer.String())
		for _, p := range i.Attendees {
			o.value("", "attendee: "+p.String())
		}
		o.text("description", i.Description)
	}
}

// String is p as an e-mail program shows it.
func (p Person) String() string {
	if p.Name == "" {
		return p.Address
	}
	return p.Name + " <" + p.Address + ">"
}

func (o *printer) http(h *HTTP) {
	o.value("request", h.Method+" "+h.URL)
	if h.Credential != "" {
		o.value("credential", h.Credential+", added when it is sent")
	}
	o.pairs("headers", h.Headers)
	if h.IdempotencyKey != "" {
		o.value("", h.IdempotencyKey+": the delivery's id")
	}
	if len(h.Success) > 0 {
		o.value("success", strings.Trim(fmt.Sprint(h.Success), "[]"))
	}
	o.pairs("save", h.Save)
	o.body(h.Body)
}

func (o *printer) body(b Body) {
	if b.JSON != nil {
		o.text("body (JSON)", indented(b.JSON))
		return
	}
	o.text("body", b.Text)
}

func indented(raw json.RawMessage) Lines {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return lines(string(raw))
	}
	return lines(b.String())
}

func compacted(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

func written(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// visible has characters that would move the cursor, or the text around them, as
// their escapes.
func visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	switch r {
	case '\t', '\u200c', '\u200d': // joiners are part of words and of emojis
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
