// Package webhook sends webhooks as Standard Webhooks asks: a POST, signed,
// under an id that stays the same on each attempt. It calls no address that
// belongs to the network it runs in, unless it is told to.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Policy suits receivers of webhooks: they tell repeats apart by webhook-id,
// so that nothing has to be announced, and what is uncertain is sent again.
var Policy = dispatch.Policy{OnUnknown: dispatch.Resend, Provider: true, Concurrency: httpsend.MaxConns, Timeout: 15 * time.Second}

// Config says how webhooks are signed and where they may go.
type Config struct {
	// Secrets sign each webhook: "whsec_" and the base64 of 24 to 64 bytes.
	// Each may hold several, separated by spaces or commas. All of them sign,
	// so that receivers can change from one to the next. At least one is
	// needed.
	Secrets []dispatch.Secret

	// Reach says where webhooks may go.
	Reach httpsend.Reach

	// UserAgent is sent where the webhook sets none of its own. "" means
	// "outbox-listener".
	UserAgent string

	// Now gives the time of the signature, which receivers hold against their own.
	// nil means time.Now; where there is a listener its Clock is better, since
	// that does not depend on the host.
	Now func() time.Time
}

// Sender is the sender of dispatch.ChannelWebhook.
type Sender struct {
	keys      keyring
	userAgent string
	now       func() time.Time
	client    *http.Client
}

// New returns a Sender. Its error names the variable that has to be mended,
// and never the secret.
func New(cfg Config) (*Sender, error) {
	keys, err := parseSecrets(cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("OUTBOX_WEBHOOK_SECRET: %w", err)
	}
	s := &Sender{
		keys:      keys,
		userAgent: cfg.UserAgent,
		now:       cfg.Now,
		client:    cfg.Reach.Client(),
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
	return httpsend.Destination(w.URL)
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
	res, e := httpsend.Do(s.client, dispatch.ChannelWebhook, req, 0)
	if e != nil {
		return dispatch.Receipt{}, e
	}
	kind := httpsend.KindOf(res.Status)
	if kind == "" {
		return dispatch.Receipt{Status: res.Status}, nil
	}
	wish := httpsend.RetryAfter(res.Header, s.now())
	if d.Once {
		kind = httpsend.KindOfOnce(res.Status, wish)
	}
	e = &dispatch.Error{
		Channel: dispatch.ChannelWebhook,
		Kind:    kind,
		Status:  res.Status,
		Err:     fmt.Errorf("POST %s: %s", req.URL.Host, httpsend.Meaning(res.Status)),
	}
	if kind != dispatch.Rejected {
		e.RetryAfter = wish
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
	keys := s.keys.of(req.URL)
	if keys == nil {
		return nil, errors.New("no secret of OUTBOX_WEBHOOK_SECRET is for this host, or for all")
	}
	req.Header.Set("Content-Type", httpsend.ContentType(w.Body))
	req.Header.Set("User-Agent", s.userAgent)
	for name, value := range w.Headers {
		req.Header.Set(name, value)
	}
	id, now := d.ID.String(), s.now()
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("Webhook-Signature", sign(keys, id, now, w.Body))
	return req, nil
}

func rejected(err error) *dispatch.Error {
	return &dispatch.Error{Channel: dispatch.ChannelWebhook, Kind: dispatch.Rejected, Err: err}
}
