package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of a webhook.
const (
	MaxWebhookURL     = 2048 // bytes
	maxWebhookHeaders = 50
)

// ownWebhookHeaders are the headers that the sender or the connection sets.
// The two idempotency headers are among them because Go's HTTP client sends a
// POST that has one a second time by itself; webhook-id says the same.
var ownWebhookHeaders = []string{
	"host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive",
	"te", "trailer", "upgrade", "expect", "idempotency-key", "x-idempotency-key",
}

// ownWebhookPrefixes begin the names of more of them.
var ownWebhookPrefixes = []string{"webhook-", "proxy-"}

// Validate reports what keeps w from being sent, in a sentence that names the
// key and what is accepted, and that has nothing of the content in it.
//
// It does not look the host up: which addresses may be called is decided when
// the connection is made.
func (w Webhook) Validate() error {
	if err := validWebhookURL(w.URL); err != nil {
		return fmt.Errorf(`the key "url" %w`, err)
	}
	if w.Body == "" {
		return errors.New(`the key "body" is empty; it has to be the text or JSON value to send`)
	}
	if len(w.Headers) > maxWebhookHeaders {
		return fmt.Errorf(`the key "headers" has %d headers; at most %d are accepted`, len(w.Headers), maxWebhookHeaders)
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		lower := strings.ToLower(name)
		switch {
		case !token(name) || len(name) > 76:
			return errors.New(`the key "headers" has a name in it that is not a header name; letters, digits and hyphens are accepted`)
		case reserved(lower, ownWebhookHeaders, ownWebhookPrefixes) != "":
			return fmt.Errorf(`the key "headers" sets %s, which cannot be set there`,
				reserved(lower, ownWebhookHeaders, ownWebhookPrefixes))
		case seen[lower]:
			return errors.New(`the key "headers" has one name twice, in different spellings`)
		case !printableASCII(w.Headers[name]):
			return errors.New(`the key "headers" has a value with a line break, a control character or a letter outside ASCII in it`)
		case len(w.Headers[name]) > 4<<10:
			return fmt.Errorf(`the key "headers" has a value of %d bytes; at most %d are accepted`, len(w.Headers[name]), 4<<10)
		}
		seen[lower] = true
	}
	return nil
}

// validWebhookURL returns the end of a sentence that began with the key.
func validWebhookURL(s string) error {
	switch {
	case s == "":
		return errors.New("is empty; it has to be an address such as https://example.com/hooks")
	case len(s) > MaxWebhookURL:
		return fmt.Errorf("is %d bytes long; at most %d are accepted", len(s), MaxWebhookURL)
	case !printableASCII(s) || strings.ContainsAny(s, " \\"):
		return errors.New("has a space, a backslash, a control character or a letter outside ASCII in it; " +
			`percent-encode the path, and write the host in the form that begins with "xn--"`)
	case strings.Contains(s, "#"):
		return errors.New(`has a fragment ("#…"), which would never be sent`)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("cannot be read; it has to be an address such as https://example.com/hooks")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("has to begin with https:// or http://")
	case u.Opaque != "" || u.Hostname() == "":
		return errors.New("has no host; it has to be an address such as https://example.com/hooks")
	case u.User != nil:
		return errors.New(`has a user name or password in it; put credentials into "headers"`)
	case strings.Contains(u.Host, "%"):
		return errors.New("has a zone in its host, which is not accepted")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return errors.New("has a port that is not a number from 1 to 65535")
		}
	}
	return nil
}

func printableASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
