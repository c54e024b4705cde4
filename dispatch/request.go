package dispatch

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Limits of a request over HTTP.
const (
	MaxURL         = 2048 // bytes
	maxHTTPHeaders = 50
	maxHTTPHeader  = 4 << 10 // bytes of a value
)

// connectionHeaders are the headers that the connection sets.
var connectionHeaders = []string{
	"host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
}

// validURL returns the end of a sentence that began with the key. credentials says
// which key they belong in.
func validURL(s, credentials string) error {
	switch {
	case s == "":
		return errors.New("is empty; it has to be an address such as https://example.com/hooks")
	case len(s) > MaxURL:
		return fmt.Errorf("is %d bytes long; at most %d are accepted", len(s), MaxURL)
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
		return errors.New("has a user name or password in it; put credentials into " + credentials)
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

// validHTTPHeaders refuses names that are in own or begin with one of prefixes,
// and what cannot be in a header.
func validHTTPHeaders(headers map[string]string, own, prefixes []string) error {
	if len(headers) > maxHTTPHeaders {
		return fmt.Errorf(`the key "headers" has %d headers; at most %d are accepted`, len(headers), maxHTTPHeaders)
	}
	return headerRules{
		own: own, prefixes: prefixes,
		safe: printableASCII, unsafe: "a line break, a control character or a letter outside ASCII", longest: maxHTTPHeader,
	}.validate(headers)
}

func printableASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
