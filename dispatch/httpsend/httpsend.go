// Package httpsend is what the senders over HTTP have in common: one request
// that leaves at most once, a reply of bounded size, and failures in the
// terms that the retry policy acts on.
package httpsend

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"

	"code.dny.dev/ssrf"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// DefaultMaxBody is how much of a reply's body is read where Do is given no
// other limit.
const DefaultMaxBody = 64 << 10

// Response is a provider's reply, read and closed.
type Response struct {
	Status  int
	Header  http.Header
	Body    []byte // at most maxBody bytes
	Partial bool   // Body is not all of it: there was more than maxBody, or it broke off
}

// HTTP returns r as a client library expects the answer to req. What was read of
// the body is all of it.
func (r *Response) HTTP(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode: r.Status,
		Status:     http.StatusText(r.Status),
		Header:     r.Header,
		Body:       io.NopCloser(bytes.NewReader(r.Body)),
		Request:    req,
	}
}

// Do sends req once and returns the reply, whatever its status: the caller
// tells a success from a failure, with KindOf or a table of its own. At most
// maxBody bytes of the body are read, DefaultMaxBody when maxBody is not
// positive.
//
// The error is nil when a status line came. Otherwise its Kind is
//
//   - Rejected when the address is one that may not be called (package ssrf),
//   - Down when no part of the request left: name lookup, dial, TLS, or ctx
//     ended before that, or it was not ours any more (dispatch.ErrLate),
//   - Unknown when it may have left: the connection broke, or ctx ended.
//
// Its text names the method and host, never the path, the query, a header or
// anything that the other side wrote.
//
// Go's transport sends some requests a second time when a reused connection
// dies. Do takes from it what it needs for that: GetBody, and where there is no
// body, the spelling of the idempotency headers that it looks for. What remains
// is a GET, whose client has to be one from Reach. Redirects are never
// followed. Of client its Transport and Timeout are heeded. req itself is left as
// it was, but for its body, which is consumed.
func Do(client *http.Client, ch dispatch.Channel, req *http.Request, maxBody int64) (*Response, *dispatch.Error) {
	if maxBody <= 0 {
		maxBody = DefaultMaxBody
	}
	var left, late atomic.Bool
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	if client.Timeout > 0 {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, client.Timeout)
		defer done()
	}
	once := req.WithContext(httptrace.WithClientTrace(ctx, traceInto(&left, func(conn net.Conn) {
		if dispatch.Ours(ctx) {
			return
		}
		late.Store(true)
		giveUp(conn, cancel)
	})))
	once.GetBody = nil
	if once.Header == nil {
		once.Header = http.Header{}
	}
	for _, name := range replayed {
		if v := once.Header[name]; v != nil {
			once.Header = once.Header.Clone()
			delete(once.Header, name)
			once.Header[strings.ToLower(name)] = v
		}
	}

	res, err := exchange(client, once)
	if err != nil {
		if late.Load() {
			return nil, &dispatch.Error{Channel: ch, Kind: dispatch.Down, Err: fmt.Errorf("%s %s: %w", req.Method, req.URL.Host, dispatch.ErrLate)}
		}
		return nil, failure(ch, req, err, left.Load())
	}
	defer res.Body.Close()
	failpoint.Hit("K8")

	// The status line is the answer. A body that breaks off afterwards, or
	// that ctx cuts short, does not take it back.
	var body []byte
	if res.Body != http.NoBody {
		body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	}
	r := &Response{Status: res.StatusCode, Header: res.Header, Body: body, Partial: err != nil}
	if int64(len(body)) > maxBody {
		r.Body, r.Partial = body[:maxBody], true
	}
	return r, nil
}

// replayed are the headers, in their canonical form, that make net/http send a
// request again by itself.
var replayed = []string{"Idempotency-Key", "X-Idempotency-Key"}

func useLast(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// exchange sends req over the transport of client. What Client.Do would do beside that is of no use here,
// or does harm: it would look at where a redirect leads to, and lose the answer where that cannot be read.
// Cookies are not sent.
func exchange(client *http.Client, req *http.Request) (*http.Response, error) {
	over := client.Transport
	if over == nil {
		over = http.DefaultTransport
	}
	if u := req.URL.User; u != nil && req.Header.Get("Authorization") == "" {
		req = req.Clone(req.Context())
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	res, err := over.RoundTrip(req)
	plain, ok := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case ok && string(plain.RecordHeader[:]) == "HTTP/":
		return nil, http.ErrSchemeMismatch
	case err != nil:
		return nil, err
	case res == nil:
		return nil, errNoAnswer
	case res.Body == nil: // which a transport of others may leave out
		res.Body = http.NoBody
	}
	return res, nil
}

var errNoAnswer = errors.New("the transport gave no answer and no error")

// giveUp keeps a request from being written to conn, which it has just got: HTTP/2
// looks at the context before it writes, and HTTP/1 does not, so that its connection
// is closed, which is nobody else's.
func giveUp(conn net.Conn, cancel context.CancelFunc) {
	cancel()
	if t, ok := conn.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		return
	}
	_ = conn.Close()
}

// traceInto sets left before the first byte of a request can reach the
// network. HTTP/1 reports WroteHeaders before it flushes, but HTTP/2 only
// afterwards, when a canceled request may already have been given up; the
// single header fields are reported before the write in both.
//
// ready is called with the connection, before anything is written to it.
func traceInto(left *atomic.Bool, ready func(net.Conn)) *httptrace.ClientTrace {
	t := &httptrace.ClientTrace{
		GotConn:          func(got httptrace.GotConnInfo) { ready(got.Conn) },
		WroteHeaderField: func(string, []string) { left.Store(true) },
		WroteHeaders:     func() { left.Store(true) },
	}
	if failpoint.Enabled {
		t.GotConn = func(got httptrace.GotConnInfo) {
			failpoint.Hit("K6")
			ready(got.Conn)
		}
		t.GotFirstResponseByte = func() { failpoint.Hit("K7") } // WroteRequest comes before the flush
	}
	return t
}

// failure says what a transport error means for the delivery.
func failure(ch dispatch.Channel, req *http.Request, err error, left bool) *dispatch.Error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text has the whole URL
	}
	e := &dispatch.Error{Channel: ch, Kind: dispatch.Down}
	text := quoted.ReplaceAllString(err.Error(), `"…"`)
	switch {
	case refused(err):
		// The address that a name has led to is not for the person who chose
		// the name to learn.
		e.Kind = dispatch.Rejected
		text = "not called: the address or port is not one that may be called"
		if c, ok := errors.AsType[*cause](err); ok {
			text = c.text
		}
	case left:
		e.Kind = dispatch.Unknown
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		text = "no answer in time"
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	}
	e.Err = &cause{text: clip(fmt.Sprintf("%s %s: %s", req.Method, req.URL.Host, text)), err: err}
	return e
}

// refused reports whether err is a refusal by an ssrf.Guardian.
func refused(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) ||
		errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort)
}

// quoted finds what the transport quotes in its errors: pieces of the other
// side's reply, which may repeat our credentials.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"?`)

// cause is an error whose text has been cleaned, and which still answers
// errors.Is and errors.As as the original would.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// clip cuts s to 300 bytes, on a rune boundary.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Destination names the place that a URL leads to, for dispatch.Addressed: its
// host and port in lower case, or "" where it cannot be read.
func Destination(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// ContentType returns the media type of a body for which none is named.
func ContentType(body string) string {
	if json.Valid([]byte(body)) {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}
