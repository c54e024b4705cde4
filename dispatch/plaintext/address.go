package plaintext

import (
	"strings"
	"unicode"
)

// schemes are the beginnings of addresses that a reader of text can follow.
var schemes = []string{"http://", "https://", "mailto:", "tel:", "sms:"}

// address returns href as it is to be read: without the line breaks and
// control characters that browsers drop, in one word, a mailto without its
// scheme and parameters. It is "" where there is nothing to follow: a place
// within the mail, a relative address, a script.
func address(href string) string {
	href = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || invisible(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(href))
	for _, scheme := range schemes {
		if len(href) <= len(scheme) || !strings.EqualFold(href[:len(scheme)], scheme) {
			continue
		}
		if scheme == "mailto:" {
			href, _, _ = strings.Cut(href[len(scheme):], "?")
		}
		return strings.Join(strings.FieldsFunc(href, unicode.IsSpace), "%20")
	}
	return ""
}

// same reports whether a link's text is its address, as people write it.
func same(text, url string) bool {
	if len(text) > len(url)+len("https://www./") { // a number may have as many blanks
		return false
	}
	if strings.HasPrefix(url, "tel:") || strings.HasPrefix(url, "sms:") {
		return digits(text) == digits(url)
	}
	return bare(text) == bare(url)
}

// bare is a URL without what people leave out.
func bare(url string) string {
	url = strings.ToLower(url)
	url = strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "https://")
	return strings.TrimSuffix(strings.TrimPrefix(url, "www."), "/")
}

// digits is a number without what people put between its digits.
func digits(number string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, number)
}
