package dispatch

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxEmailRecipients is the most addresses in To, Cc and Bcc together, the
// number that every mail server has to take (RFC 5321, 4.5.3.1.8).
const MaxEmailRecipients = 100

// maxHeader bounds a header value, in bytes. RFC 5322 allows lines of 998.
const maxHeader = 900

// Validate reports what keeps m from being sent, in a sentence that names the
// key and what is accepted, and that has nothing of the content in it.
func (m Email) Validate() error {
	if len(m.To) == 0 {
		return errors.New(`the key "to" is empty; it has to be an e-mail address or an array of them`)
	}
	if n := len(m.To) + len(m.Cc) + len(m.Bcc); n > MaxEmailRecipients {
		return fmt.Errorf(`the keys "to", "cc" and "bcc" have %d addresses together; at most %d are accepted`, n, MaxEmailRecipients)
	}
	for _, f := range []struct {
		key       string
		addresses []string
	}{
		{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}, {"reply_to", nonEmpty(m.ReplyTo)},
	} {
		for i, a := range f.addresses {
			if err := validAddress(a); err != nil {
				where := fmt.Sprintf("the key %q", f.key)
				if len(f.addresses) > 1 {
					where = fmt.Sprintf("address %d of the key %q", i+1, f.key)
				}
				return fmt.Errorf("%s %w", where, err)
			}
		}
	}
	switch {
	case strings.TrimSpace(m.Subject) == "":
		return errors.New(`the key "subject" is empty; it has to be the subject line`)
	case !headerSafe(m.Subject):
		return errors.New(`the key "subject" has a line break or another control character in it; it has to be a single line of text`)
	case len(m.Subject) > maxHeader:
		return fmt.Errorf(`the key "subject" is %d bytes long; at most %d are accepted`, len(m.Subject), maxHeader)
	case strings.TrimSpace(m.Text) == "" && strings.TrimSpace(m.HTML) == "":
		return errors.New(`the keys "text" and "html" are both empty; at least one of them has to be the message`)
	}
	for _, f := range []struct{ key, text string }{{"text", m.Text}, {"html", m.HTML}} {
		if !utf8.ValidString(f.text) {
			return fmt.Errorf("the key %q is not valid UTF-8", f.key)
		}
		if strings.ContainsRune(f.text, 0) {
			return fmt.Errorf("the key %q has a NUL character in it", f.key)
		}
	}
	if err := emailHeaders.validate(m.Headers); err != nil {
		return err
	}
	if err := validateAttachments(m.Attachments); err != nil {
		return err
	}
	return m.Invite.validate()
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// validAddress returns the end of a sentence that began with the key.
func validAddress(s string) error {
	if !headerSafe(s) {
		return errors.New("has a line break or another control character in it")
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		if list, err := mail.ParseAddressList(s); err == nil && len(list) > 1 {
			return errors.New("holds several addresses in one text; several addresses are an array")
		}
		return errors.New("has to be an e-mail address such as ann@example.com or Ann <ann@example.com>")
	}
	switch {
	case len(a.Address) > 254:
		return errors.New("is longer than the 254 characters that an e-mail address may have")
	case strings.IndexFunc(a.Address, func(r rune) bool { return r > unicode.MaxASCII }) >= 0:
		return errors.New(`has letters outside ASCII in the address itself; write its domain in the form that begins with "xn--"`)
	}
	return nil
}

// Addr returns the bare address of a valid RFC 5322 address: ann@example.com
// for Ann <ann@example.com>. Anything else comes back as it is.
func Addr(s string) string {
	if a, err := mail.ParseAddress(s); err == nil {
		return a.Address
	}
	return s
}

// ownEmailHeaders are the headers that are ours or the mail server's to set.
var ownEmailHeaders = []string{
	"from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version",
	"return-path", "received", "delivered-to", "apparently-to", "envelope-to", "errors-to",
	"authentication-results", "received-spf",
}

// ownEmailPrefixes begin the names of more of them.
var ownEmailPrefixes = []string{"content-", "dkim-", "arc-", "resent-"}

// emailHeaders says what may be among the headers of an Email.
var emailHeaders = headerRules{
	own: ownEmailHeaders, prefixes: ownEmailPrefixes,
	safe: headerSafe, unsafe: "a line break or another control character", longest: maxHeader,
}
