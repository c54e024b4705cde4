package smtp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/mail"
	"regexp"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// message is a delivery as it goes over the wire.
type message struct {
	from    string   // in angle brackets, as MAIL wants it
	rcpts   []string // the same for RCPT
	data    []byte   // headers and body, CRLF at each line's end
	private []string // local parts of its addresses, which are not for error texts
}

// render makes d's message. The same delivery always gives the same bytes:
// id, date and MIME boundary come from it, never from a clock or from chance.
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
	// All bodies in quoted-printable: pure ASCII in lines of at most 76, and
	// each line end a CRLF, bare CR included.
	msg := gomail.NewMsg(
		gomail.WithEncoding(gomail.EncodingQP),
		gomail.WithNoDefaultUserAgent(),
		gomail.WithBoundary(boundary(d)),
	)
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

	if e.Text != "" {
		msg.SetBodyString(gomail.TypeTextPlain, e.Text)
	}
	if e.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, e.HTML) // the only body where there is no text
	}
	var buf bytes.Buffer
	if _, err := msg.WriteTo(&buf); err != nil {
		return nil, errors.New("the e-mail cannot be rendered")
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

// boundary separates the parts of d's message. It comes from what it
// separates, so that nobody can write a text that contains it.
func boundary(d *dispatch.Delivery) string {
	sum := sha256.Sum256(append(d.ID[:], d.Content...))
	return "outbox-" + hex.EncodeToString(sum[:16])
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
	}
	return text
}

// hidden stands where something was taken out of a text.
const hidden = "***"
