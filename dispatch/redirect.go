package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// Redirect keeps deliveries away from those they are for: on a system for trying
// things out, whose database may be a copy of the real one. It is asked right
// before something is sent, so that it holds for what was planned and frozen
// before it was set, too.
//
// As soon as one of its fields is set, a delivery goes to where it is redirected,
// or to a recipient that is allowed, or nowhere. Channels whose deliveries stay
// with us (log, discard, handler, sql) and the model (openai) are left alone. The
// zero value changes nothing.
type Redirect struct {
	SMS   string     // number that gets all SMS, in E.164 form; "" means none
	Email string     // address that gets all e-mail; "" means none
	Allow Recipients // who may be sent to without being redirected
}

// Active reports whether r does anything.
func (r Redirect) Active() bool { return r.SMS != "" || r.Email != "" || len(r.Allow) > 0 }

// OriginalTo is the header of a redirected e-mail that says, masked, whom it was
// for.
const OriginalTo = "X-Original-To"

// Apply returns what to send in d's place: d itself, or a copy that goes to
// somebody else. Where nothing may be sent it returns nil, and why. d stays as it
// is.
func (r Redirect) Apply(d *Delivery) (send *Delivery, held string) {
	if !r.Active() {
		return d, ""
	}
	switch d.Channel {
	case ChannelLog, ChannelDiscard, ChannelHandler, ChannelSQL, ChannelOpenAI:
		return d, ""
	case ChannelSMS:
		m, err := ReadContent[SMS](&d.Message)
		if err != nil {
			return nil, "whom it is for cannot be read: " + err.Error()
		}
		if r.SMS == "" {
			return r.allowed(d, m.To)
		}
		m.To = r.SMS
		return redirected(d, r.SMS, m)
	case ChannelEmail:
		m, err := ReadContent[Email](&d.Message)
		if err != nil {
			return nil, "whom it is for cannot be read: " + err.Error()
		}
		all := slices.Concat(m.To, m.Cc, m.Bcc)
		if r.Email == "" {
			return r.allowed(d, all...)
		}
		m.To, m.Cc, m.Bcc = []string{r.Email}, nil, nil
		m.Headers = maps.Clone(m.Headers)
		maps.DeleteFunc(m.Headers, func(name, _ string) bool { return strings.EqualFold(name, OriginalTo) })
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[OriginalTo] = maskedList(all)
		return redirected(d, Addr(r.Email), m)
	case ChannelWebhook:
		m, err := ReadContent[Webhook](&d.Message)
		if err != nil {
			return nil, "where it goes cannot be read: " + err.Error()
		}
		return r.allowed(d, m.URL)
	case ChannelHTTP:
		m, err := ReadContent[HTTP](&d.Message)
		if err != nil {
			return nil, "where it goes cannot be read: " + err.Error()
		}
		return r.allowed(d, m.URL)
	}
	return nil, "not sent: whom a channel of an application's own reaches is not known"
}

// allowed returns d if all of recipients are allowed.
func (r Redirect) allowed(d *Delivery, recipients ...string) (*Delivery, string) {
	for _, recipient := range recipients {
		if !r.Allow.has(d.Channel, recipient) {
			shown := Mask(d.Channel, recipient)
			if d.Channel == ChannelEmail {
				shown = Mask(d.Channel, Addr(recipient))
			}
			return nil, fmt.Sprintf("not sent: %s is none of the recipients that are allowed on this system", shown)
		}
	}
	if len(recipients) == 0 {
		return nil, "not sent: it names no recipient"
	}
	return d, ""
}

// redirected is d with other content, to another recipient.
func redirected(d *Delivery, recipient string, content any) (*Delivery, string) {
	raw, err := encode(content)
	if err != nil {
		return nil, "it cannot be redirected: " + err.Error()
	}
	other := *d
	other.Recipient, other.Content, other.made = recipient, raw, made{content, raw}
	return &other, ""
}

// maskedList is addresses as a header may show them, as many as fit.
func maskedList(addresses []string) string {
	var b strings.Builder
	for i, a := range addresses {
		masked := Mask(ChannelEmail, Addr(a))
		if b.Len()+len(masked) > maxHeader-len(", and 100 more") {
			fmt.Fprintf(&b, ", and %d more", len(addresses)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(masked)
	}
	return b.String()
}

// Recipients are whom deliveries may go to: numbers, addresses, their beginnings
// and domains, and hosts; see ParseRecipients.
type Recipients []string

// ParseRecipients reads recipients, each of
//
//	+15550100123        a number
//	+1555*, +*          all numbers that begin so
//	ann@example.com     an address
//	@example.com        all addresses of a domain, not of those below it
//	@*                  all addresses
//	hooks.example.com   a host, for webhooks and requests, on any port
//	localhost:8080      a host on one port
//
// Capitals do not matter. Its error shows the one that is none of these.
func ParseRecipients(words []string) (Recipients, error) {
	var list Recipients
	for _, w := range words {
		if !recipientForm(w) {
			return nil, fmt.Errorf("%q is none of a number (+15550100123), the beginning of numbers (+1555*), an e-mail address, a domain (@example.com) and a host", w)
		}
		list = append(list, strings.ToLower(w))
	}
	if len(list) == 0 {
		return nil, errors.New("it names nobody")
	}
	return list, nil
}

func recipientForm(s string) bool {
	if s == "+*" || s == "@*" {
		return true
	}
	if strings.HasPrefix(s, "+") && !strings.Contains(s, "@") {
		digits, all := strings.CutSuffix(s, "*")
		if all {
			digits = digits[1:]
			return len(digits) >= 1 && len(digits) <= 15 && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
		}
		return e164.MatchString(digits)
	}
	if strings.ContainsAny(s, " *,;\"<>") || strings.Trim(s, "0123456789") == "" { // digits: a number without its plus
		return false
	}
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		s = "x@" + domain
	}
	if strings.Contains(s, "@") {
		a, err := mail.ParseAddress(s)
		return err == nil && a.Address == s && mailDomain.MatchString(s[strings.LastIndexByte(s, '@')+1:])
	}
	u, err := url.Parse("https://" + s)
	return err == nil && u.Host == s && u.Hostname() != "" && !strings.HasSuffix(s, ":") && validURL("https://"+s, "") == nil
}

// has reports whether recipient, as the deliveries of ch have it, is one of r.
func (r Recipients) has(ch Channel, recipient string) bool {
	switch ch {
	case ChannelSMS:
		return slices.ContainsFunc(r, func(allowed string) bool {
			if begin, ok := strings.CutSuffix(allowed, "*"); ok {
				return strings.HasPrefix(recipient, begin)
			}
			return recipient == allowed
		})
	case ChannelEmail:
		address := strings.ToLower(Addr(recipient))
		at := strings.LastIndexByte(address, '@')
		return at > 0 && (slices.Contains(r, "@*") || slices.Contains(r, address) || slices.Contains(r, address[at:]))
	case ChannelWebhook, ChannelHTTP:
		u, err := url.Parse(strings.ToLower(recipient))
		if err != nil || u.Host == "" {
			return false
		}
		host, port := u.Hostname(), u.Port()
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return slices.Contains(r, host) || slices.Contains(r, host+":"+port)
	}
	return false
}

// String is r for people, with recipients masked.
func (r Recipients) String() string {
	var shown []string
	for _, w := range r {
		switch {
		case strings.HasPrefix(w, "+") && !strings.HasSuffix(w, "*"):
			w = Mask(ChannelSMS, w)
		case strings.LastIndexByte(w, '@') > 0:
			w = Mask(ChannelEmail, w)
		}
		shown = append(shown, w)
	}
	return strings.Join(shown, ", ")
}
