// Package webhook sends webhooks as Standard Webhooks asks: a POST, signed,
// under an id that stays the same on each attempt. It calls no address that
// belongs to the network it runs in, unless it is told to.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Policy suits receivers of webhooks: they tell repeats apart by webhook-id,
// so that nothing has to be announced, and what is uncertain is sent again.
var Policy = dispatch.Policy{OnUnknown: dispatch.Resend, Timeout: 15 * time.Second}

// Config says how webhooks are signed and where they may go.
type Config struct {
	// Secrets sign each webhook: "whsec_" and the base64 of 24 to 64 bytes.
	// Each may hold several, separated by spaces or commas. All of them sign,
	// so that receivers can change from one to the next. At least one is
	// needed.
	Secrets []dispatch.Secret

	// AllowCIDRs are networks that may be called although they are private,
	// loopback or otherwise reserved. In them every port is open, and plain
	// http. Networks with NAT64 need 64:ff9b::/96 here.
	//
	// Everywhere else only the ports 443 and 8443 are open, and 80 with
	// AllowHTTP.
	AllowCIDRs []netip.Prefix

	// AllowHTTP allows plain http to public addresses too.
	AllowHTTP bool

	// UserAgent is sent where the webhook sets none of its own. "" means
	// "outbox-listener".
	UserAgent string

	// Now gives the time of the signature. nil means time.Now.
	Now func() time.Time

	resolver *net.Resolver // for tests; nil means the system's
}

// Sender is the sender of dispatch.ChannelWebhook.
type Sender struct {
	keys      [][]byte
	userAgent string
	now       func() time.Time
	https     *http.Client
	http      *http.Client // reaches less: see guard
	plain     bool         // AllowHTTP
}

// New returns a Sender. Its error names the variable that has to be mended,
// and never the secret.
func New(cfg Config) (*Sender, error) {
	keys, err := parseSecrets(cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("OUTBOX_WEBHOOK_SECRET: %w", err)
	}
	overHTTPS := guard{allow: cfg.AllowCIDRs, public: publicHTTPS}
	overHTTP := guard{allow: cfg.AllowCIDRs}
	if cfg.AllowHTTP {
		overHTTP.public = publicHTTP
	}
	s := &Sender{
		keys:      keys,
		userAgent: cfg.UserAgent,
		now:       cfg.Now,
		https:     client(overHTTPS, cfg.resolver),
		http:      client(overHTTP, cfg.resolver),
		plain:     cfg.AllowHTTP,
	}
	if s.userAgent == "" {
		s.userAgent = "outbox-listener"
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Destination implements dispatch.Addressed: the host and port of the URL, or
// "" where that cannot be read.
func (s *Sender) Destination(d *dispatch.Delivery) string {
	w, err := dispatch.ReadContent[dispatch.Webhook](&d.Message)
	if err != nil {
		return ""
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// Send implements dispatch.Sender. Any 2xx means that the webhook was taken.
func (s *Sender) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	w, err := dispatch.ReadContent[dispatch.Webhook](&d.Message)
	if err != nil {
		return dispatch.Receipt{}, rejected(err)
	}
	if err := w.Validate(); err != nil {
		return dispatch.Receipt{}, rejected(err)
	}
	req, err := s.request(ctx, d, w)
	if err != nil {
		return dispatch.Receipt{}, rejected(err)
	}
	client := s.https
	if req.URL.Scheme == "http" {
		client = s.http
	}
	res, e := httpsend.Do(client, dispatch.ChannelWebhook, req, 0)
	if e != nil {
		return dispatch.Receipt{}, s.explain(e, req.URL)
	}
	kind := httpsend.KindOf(res.Status)
	if kind == "" {
		return dispatch.Receipt{Status: res.Status}, nil
	}
	e = &dispatch.Error{
		Channel: dispatch.ChannelWebhook,
		Kind:    kind,
		Status:  res.Status,
		Err:     fmt.Errorf("POST %s: %s", req.URL.Host, meaning(res.Status)),
	}
	if kind != dispatch.Rejected {
		e.RetryAfter = httpsend.RetryAfter(res.Header, s.now())
	}
	return dispatch.Receipt{}, e
}

// request returns the POST, the same on each attempt but for the time and the
// signature.
func (s *Sender) request(ctx context.Context, d *dispatch.Delivery, w dispatch.Webhook) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, strings.NewReader(w.Body))
	if err != nil {
		return nil, errors.New("the URL cannot be used") // err has all of it
	}
	req.Header.Set("Content-Type", contentType(w.Body))
	req.Header.Set("User-Agent", s.userAgent)
	for name, value := range w.Headers {
		req.Header.Set(name, value)
	}
	id, now := d.ID.String(), s.now()
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("Webhook-Signature", sign(s.keys, id, now, w.Body))
	return req, nil
}

func contentType(body string) string {
	if json.Valid([]byte(body)) {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// explain adds to a refused address what would allow it.
func (s *Sender) explain(e *dispatch.Error, u *url.URL) *dispatch.Error {
	if e.Kind != dispatch.Rejected {
		return e
	}
	text := "POST %s: not called: the address is private or reserved, or the port is none of those open to webhooks"
	if u.Scheme == "http" && !s.plain {
		text = "POST %s: not called: plain http is not allowed to this address"
	}
	e.Err = fmt.Errorf(text, u.Host)
	return e
}

// meaning says a status in words.
func meaning(status int) string {
	text := http.StatusText(status)
	switch {
	case status >= 300 && status <= 399:
		return strings.TrimSpace(text + " (redirects are not followed)")
	case text == "":
		return "an unusual answer"
	}
	return text
}

func rejected(err error) *dispatch.Error {
	return &dispatch.Error{Channel: dispatch.ChannelWebhook, Kind: dispatch.Rejected, Err: err}
}
