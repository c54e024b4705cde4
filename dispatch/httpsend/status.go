package httpsend

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// KindOf says what an HTTP status means where a second request does no harm:
// "" for the 2xx, which are no failure. Elsewhere it is KindOfOnce.
func KindOf(status int) dispatch.Kind {
	if status >= 200 && status <= 299 {
		return ""
	}
	switch status {
	case http.StatusTooManyRequests: // 429: said before any work was done
		return dispatch.Throttled

	case http.StatusRequestTimeout, // 408: the request did not arrive whole
		http.StatusMisdirectedRequest, // 421: meant for another connection
		http.StatusTooEarly:           // 425: not taken before the handshake is done
		return dispatch.Down

	case http.StatusGatewayTimeout, // 504: a proxy passed it on and heard nothing
		524,      // the same from Cloudflare
		598, 599: // the same from other proxies
		return dispatch.Unknown

	case http.StatusNotImplemented, // 501: it does not know the method
		http.StatusHTTPVersionNotSupported: // 505
		return dispatch.Rejected
	}
	if status >= 500 && status <= 599 {
		return dispatch.Down // 500, 502, 503, …: failed there, and a repeat does no harm
	}
	// 3xx: redirects are not followed, the address has to be mended.
	// 4xx: the same request gets the same answer; 410 says so outright.
	// Anything else is not an answer to a POST.
	return dispatch.Rejected
}

// KindOfOnce says what an HTTP status means where a second request does harm.
// It differs from KindOf in the 5xx: a server that failed (500) or a gateway
// that could not read the answer (502) may have done the work before. What says
// that nothing happened is what Cloudflare answers when it did not get through to
// the server behind it (521, 523, 525, 526), and a 503 that asks to come again
// after a while: the request is not handled now (RFC 9110, 15.6.4). One that does
// not comes from gateways as well that passed the request on and waited in vain
// (Varnish, Heroku's H12). retryAfter is what the answer asks for.
func KindOfOnce(status int, retryAfter time.Duration) dispatch.Kind {
	kind := KindOf(status)
	if kind != dispatch.Down || status < 500 {
		return kind
	}
	switch status {
	case 521, 523, 525, 526:
		return dispatch.Down
	case http.StatusServiceUnavailable:
		if retryAfter > 0 {
			return dispatch.Down
		}
	}
	return dispatch.Unknown
}

// Meaning says a status that is no success in words.
func Meaning(status int) string {
	text := http.StatusText(status)
	switch {
	case status >= 300 && status <= 399:
		return strings.TrimSpace(text + " (redirects are not followed)")
	case text == "":
		return "an unusual answer"
	}
	return text
}

// RetryAfter returns how long a reply asks to wait: Retry-After-Ms, or
// Retry-After in seconds or as an HTTP date. No wish, a time gone by and
// garbage are 0; dispatch.MaxRetryAfter is the most. A date counts from the
// reply's own Date where it has one, so that a wrong clock on either side
// does not matter, else from now.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	if ms := h.Get("Retry-After-Ms"); ms != "" {
		if d := count(ms, time.Millisecond); d > 0 {
			return d
		}
	}
	v := h.Get("Retry-After")
	if d := count(v, time.Second); d > 0 {
		return d
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	// Sub saturates, so the year 9999 is only a long wait.
	return min(max(at.Sub(now), 0), dispatch.MaxRetryAfter)
}

// count reads a number of units, at most dispatch.MaxRetryAfter. Anything but
// digits, with an optional fraction, is 0.
func count(s string, unit time.Duration) time.Duration {
	for _, c := range s {
		if (c < '0' || c > '9') && c != '.' {
			return 0
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && n == 0 {
		return 0
	}
	most := dispatch.MaxRetryAfter
	if n >= float64(most)/float64(unit) { // an overflow comes as +Inf
		return most
	}
	return time.Duration(n * float64(unit))
}
