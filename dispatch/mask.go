package dispatch

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mask returns recipient in the form that logs and lists show: a phone number
// as +1*******12, an e-mail address as a***@example.com, a URL as
// https://example.com. "" stays "", and what is none of these, or does not
// belong on ch, becomes ***.
func Mask(ch Channel, recipient string) string {
	if recipient == "" {
		return ""
	}
	const hidden = "***"
	switch ch {
	case ChannelSMS:
		if e164.MatchString(recipient) {
			return recipient[:2] + "*******" + recipient[len(recipient)-2:]
		}
	case ChannelEmail:
		at := strings.LastIndexByte(recipient, '@')
		if at > 0 && mailDomain.MatchString(recipient[at+1:]) && headerSafe(recipient) {
			first, _ := utf8.DecodeRuneInString(recipient)
			return string(first) + "***@" + recipient[at+1:]
		}
	case ChannelWebhook, ChannelHTTP:
		if u, err := url.Parse(recipient); err == nil && u.Host != "" && headerSafe(u.Host) &&
			(u.Scheme == "http" || u.Scheme == "https") {
			return u.Scheme + "://" + u.Host
		}
	}
	return hidden
}

var mailDomain = regexp.MustCompile(`^[\p{L}\p{N}._\-]+$`)

// maxMasked is the most runes that MaskText returns.
const maxMasked = 500

// MaskText makes a provider's words fit for the ledger and the logs: e-mail
// addresses, phone numbers and whatever follows the host of a URL are masked,
// control and format characters become spaces, and what remains is cut to 500
// runes. A phone number is any run of seven digits or more, also one written
// in groups; an IPv4 address stays.
func MaskText(s string) string {
	s = shorten(s)
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = anyURL.ReplaceAllStringFunc(s, maskURL)
	s = anyQuery.ReplaceAllString(s, "$1?…")
	s = anyEmail.ReplaceAllStringFunc(s, maskEmail)
	s = anyPhone.ReplaceAllStringFunc(s, maskPhone)
	if utf8.RuneCountInString(s) > maxMasked {
		s = string([]rune(s)[:maxMasked-1]) + "…"
	}
	return strings.TrimSpace(s)
}

// shorten bounds the work. It cuts at the end of a word and well before the
// limit, so that half an address or number does not slip through as something
// else.
func shorten(s string) string {
	const most = 16 << 10
	if len(s) <= most {
		return s
	}
	s = s[:most]
	return s[:max(0, strings.LastIndexAny(s[:most-256], " \t\r\n"))]
}

var (
	anyURL   = regexp.MustCompile(`(?i)[a-z][a-z0-9+.\-]*://[^\s"<>]*`)
	anyQuery = regexp.MustCompile(`(/[^\s"<>?]*)\?[^\s"<>]+`)

	// The local part takes in every @ but the last; %40 is an @ in a URL.
	anyEmail = regexp.MustCompile(`(?:"[^"]*"|[^\s"<>,;:()\[\]]+)(?:@|%40)[\p{L}\p{N}.\-_]+`)

	// Groups have two digits or more, or else "550 5.7.26" would be a number;
	// only what precedes the first separator may be a single one.
	anyPhone = regexp.MustCompile(`\+?(?:\p{Nd}[ .()\-/\x{a0}]{1,3})?\p{Nd}{2,}(?:[ .()\-/\x{a0}]{1,3}\p{Nd}{2,})*`)
)

func maskURL(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	host, _, more := strings.Cut(rest, "/")
	if i := strings.IndexAny(host, "?#\\"); i >= 0 {
		host, more = host[:i], true
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if !more {
		return scheme + "://" + host
	}
	return scheme + "://" + host + "/…"
}

func maskEmail(s string) string {
	at := max(strings.LastIndex(s, "@"), strings.LastIndex(s, "%40"))
	domain := strings.TrimPrefix(strings.TrimPrefix(s[at:], "@"), "%40")
	first, _ := utf8.DecodeRuneInString(strings.TrimPrefix(s, `"`))
	return string(first) + "***@" + domain
}

func maskPhone(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return s
	}
	var digits []rune
	for _, r := range s {
		if unicode.Is(unicode.Nd, r) {
			digits = append(digits, r)
		}
	}
	if len(digits) < 7 {
		return s
	}
	return "***" + string(digits[len(digits)-2:])
}
