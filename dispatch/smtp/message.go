package smtp

import (
	"bytes"
	"errors"
	"net/mail"
	"regexp"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/plaintext"
)

// message is a delivery as it goes over the wire.
type message struct {
	from    string   // in angle brackets, as MAIL wants it
	rcpts   []string // the same for RCPT
	data    []byte   // headers and body, CRLF at each line's end
	private []string // local parts of its addresses, which are not for error texts
}

// render makes d's message. The same delivery always gives the same bytes: id,
// date and boundaries come from it, never from a clock, from chance or from
// what the machine knows.
//
// Its errors are for good, and have nothing of the content in them.
func (s *Sender) render(d *dispatch.Delivery) (*message, error) {
	e, err := dispatch.ReadContent[dispatch.Email](&d.Message)
	if err != nil {
		return nil, err
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	from := *s.from
	msg.FromMailAddress(&from)
	msg.SetMessageIDWithValue(d.ID.String() + "@" + s.idFrom)
	msg.SetDateWithValue(d.Date.UTC())
	headers := []string{"From", "To", "Subject", "Message-ID", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}

	subject, err := headerText(e.Subject)
	if err != nil {
		return nil, err
	}
	msg.Subject(subject)
	for name, value := range e.Headers {
		if value, err = headerText(value); err != nil {
			return nil, err
		}
		msg.SetGenHeader(gomail.Header(name), value)
		headers = append(headers, name)
	}

	m := &message{}
	for _, list := range []struct {
		texts []string
		set   func(...*mail.Address)
		shown string // "" for recipients that no header shows
	}{
		{e.To, msg.ToMailAddress, "To"},
		{e.Cc, msg.CcMailAddress, "Cc"},
		{e.Bcc, msg.BccMailAddress, ""},
		{nonEmpty(e.ReplyTo), msg.ReplyToMailAddress, "Reply-To"},
	} {
		if len(list.texts) == 0 {
			continue
		}
		addresses, err := parse(list.texts)
		if err != nil {
			return nil, err
		}
		list.set(addresses...)
		if list.shown != "" {
			headers = append(headers, list.shown)
		}
		for _, a := range addresses {
			m.private = append(m.private, a.Address[:strings.LastIndex(a.Address, "@")])
		}
	}

	var buf bytes.Buffer
	buf.Grow(sizeOf(e))
	if _, err := msg.WriteTo(&buf); err != nil { // the header alone: it was given no body
		return nil, errNotRendered
	}
	if err := content(d, e).writeTo(&buf); err != nil {
		return nil, errNotRendered
	}
	m.data = buf.Bytes()
	if err := check(m.data, headers); err != nil {
		return nil, err
	}
	if m.from, err = msg.GetSender(false); err != nil {
		return nil, errors.New("the e-mail has no sender")
	}
	if m.rcpts, err = msg.GetRecipients(); err != nil {
		return nil, errors.New("the e-mail has no recipient")
	}
	return m, nil
}

var errNotRendered = errors.New("the e-mail cannot be rendered")

// content is what e says: text, the same in HTML, the same for calendars, from
// the plainest to the richest as RFC 2046, 5.1.4 wants them, and files.
//
// An invitation is there twice. Gmail, Outlook and Apple Mail show the part
// that says its method and offer to answer it; others offer the file.
func content(d *dispatch.Delivery, e dispatch.Email) *part {
	outer, inner := boundaries(d)
	var same []*part
	plain := e.Text
	if strings.TrimSpace(plain) == "" {
		plain = plaintext.FromHTML(e.HTML)
	}
	if plain != "" {
		same = append(same, text("text/plain", plain))
	}
	if strings.TrimSpace(e.HTML) != "" {
		same = append(same, text("text/html", e.HTML))
	}
	var files []*part
	for _, a := range e.Attachments {
		files = append(files, file(mediaType(a), a.Name, a.Content))
	}
	if v := e.Invite; v != nil {
		same = append(same, binary("text/calendar; charset=UTF-8; method="+v.Method, []byte(v.Calendar)))
		files = append(files, file("application/ics", "invite.ics", []byte(v.Calendar)))
	}
	return together("mixed", outer, append([]*part{together("alternative", inner, same...)}, files...)...)
}

// sizeOf is about how long e's message becomes, in bytes.
func sizeOf(e dispatch.Email) int {
	n := 4<<10 + 2*len(e.Text) + 3*len(e.HTML)
	for _, a := range e.Attachments {
		n += 1<<10 + len(a.Content)*3/2
	}
	if e.Invite != nil {
		n += 1<<10 + len(e.Invite.Calendar)*3
	}
	return n
}

// hide takes the recipients' local parts out of a server's text. Many repeat
// a mailbox without its domain, where it does not look like an address.
func (m *message) hide(text string) string {
	for _, local := range m.private {
		if len(local) < 2 {
			continue
		}
		word := regexp.MustCompile(`(?i)(\b|_)` + regexp.QuoteMeta(local) + `(\b|_)`)
		text = word.ReplaceAllString(text, hidden)
		text = word.ReplaceAllString(text, hidden) // of two with one "_" between them, only the first was found
	}
	return text
}

// hidden stands where something was taken out of a text.
const hidden = "***"
