// Package httpcall sends plain requests: to an API, or to a hook that counts
// events, such as GA4's Measurement Protocol. Credentials are added when a
// request is sent, so that the ledger has none. It calls no address that belongs
// to the network it runs in, unless it is told to.
package httpcall

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Policy suits an API that cannot tell a repeated request apart: it is announced
// before it leaves, and where no clear answer came a person decides. What is
// dispatch.HTTP.Repeatable has dispatch.Resend in its terms.
var Policy = dispatch.Policy{Announce: true, OnUnknown: dispatch.Hold, Provider: true, Concurrency: httpsend.MaxConns, Timeout: 15 * time.Second}

// Config says where requests may go and what they may carry.
type Config struct {
	Credentials map[string]Credential // by the name that a request gives
	Reach       httpsend.Reach        // also of token endpoints

	// UserAgent is sent where the request sets none of its own. "" means
	// "outbox-listener".
	UserAgent string

	// Now gives the time that a Retry-After is held against which is a date, where an answer
	// has no Date. nil means time.Now.
	Now func() time.Time
}

// Sender is the sender of dispatch.ChannelHTTP.
type Sender struct {
	credentials atomic.Pointer[map[string]*credential]
	userAgent   string
	now         func() time.Time
	client      *http.Client
}

// New returns a Sender. Its error names the credential and what to mend, and
// never a secret.
func New(cfg Config) (*Sender, error) {
	s := &Sender{userAgent: cfg.UserAgent, now: cfg.Now, client: cfg.Reach.Client()}
	if s.userAgent == "" {
		s.userAgent = "outbox-listener"
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.SetCredentials(cfg.Credentials); err != nil {
		return nil, err
	}
	return s, nil
}

// SetCredentials replaces all credentials at once; requests under way keep those
// that they began with. Where one is the same as before, so is its token. On an
// error, which is as New's, nothing changes. It must not be called by two
// goroutines at once.
func (s *Sender) SetCredentials(all map[string]Credential) error {
	var before map[string]*credential
	if p := s.credentials.Load(); p != nil {
		before = *p
	}
	next := make(map[string]*credential, len(all))
	var errs []error
	for name, c := range all {
		if old := before[name]; old != nil && old.same(c) {
			next[name] = old
			continue
		}
		if err := c.Validate(name); err != nil {
			errs = append(errs, err)
			continue
		}
		next[name] = s.newCredential(name, c)
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return errors.Join(errs...)
	}
	s.credentials.Store(&next)
	return nil
}

// Destination implements dispatch.Addressed: the host and port of the URL, or
// "" where that cannot be read.
func (s *Sender) Destination(d *dispatch.Delivery) string {
	h, err := dispatch.ReadContent[dispatch.HTTP](&d.Message)
	if err != nil {
		return ""
	}
	return httpsend.Destination(h.URL)
}

// Send implements dispatch.Sender.
//
//	2xx, or one of Success   taken
//	another 2xx              Rejected
//	401 with a credential    Down: the credential is wrong, which an operator
//	                         mends, and no request should die for it
//	anything else            as httpsend.KindOf says where the request is
//	                         repeatable, else as httpsend.KindOfOnce does
//
// A credential that is not configured, and a token that cannot be had, are Down
// too: nothing left. A 401 to a token from the cache is answered with a new token
// and the same request, once: it says that nothing was done (RFC 9110, 15.5.2).
//
// Where Save is set, Receipt.Answer is an object with a value for each of its
// names, null where the answer does not have it or is no JSON. An answer of more
// than 64 KiB, or with more than 16 KiB to save, is Rejected, and one that breaks
// off is Unknown, although the request was taken: what it was made for is not
// there. Without Save the answer does not matter.
func (s *Sender) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	h, err := dispatch.ReadContent[dispatch.HTTP](&d.Message)
	if err != nil {
		return dispatch.Receipt{}, failed(dispatch.Rejected, 0, err)
	}
	if err := h.Validate(); err != nil {
		return dispatch.Receipt{}, failed(dispatch.Rejected, 0, err)
	}
	var c *credential
	if h.Credential != "" {
		if c = (*s.credentials.Load())[h.Credential]; c == nil {
			return dispatch.Receipt{}, failed(dispatch.Down, 0, fmt.Errorf("the credential %s is not configured", h.Credential))
		}
	}
	res, secrets, e := s.call(ctx, d, h, c)
	if e != nil {
		return dispatch.Receipt{}, e
	}
	if e := s.failure(h, res, d.Once); e != nil {
		return dispatch.Receipt{}, e
	}
	receipt := dispatch.Receipt{Status: res.Status}
	if len(h.Save) > 0 {
		if receipt.Answer, e = saved(h, res, secrets); e != nil {
			return dispatch.Receipt{}, e
		}
	}
	return receipt, nil
}

// call makes the request, twice where the first was made with a token that is not
// good any more. secrets are those that it carried.
func (s *Sender) call(ctx context.Context, d *dispatch.Delivery, h dispatch.HTTP, c *credential) (res *httpsend.Response, secrets []string, e *dispatch.Error) {
	for first := true; ; first = false {
		token, fresh, e := c.token(ctx)
		if e != nil {
			return nil, nil, e
		}
		req, err := s.request(ctx, d, h, c, token)
		if err != nil {
			return nil, nil, failed(dispatch.Rejected, 0, err)
		}
		res, e := httpsend.Do(s.client, dispatch.ChannelHTTP, req, maxAnswer)
		if e != nil {
			return nil, nil, e
		}
		if token == "" || res.Status != http.StatusUnauthorized || succeeded(h, res.Status) {
			return res, c.secrets(token), nil
		}
		c.tokens.drop(token)
		if fresh || !first {
			return res, c.secrets(token), nil
		}
	}
}

// request returns the request, the same on each attempt but for a token.
func (s *Sender) request(ctx context.Context, d *dispatch.Delivery, h dispatch.HTTP, c *credential, token string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, h.Method, h.URL, strings.NewReader(h.Body))
	if err != nil {
		return nil, errors.New("the URL cannot be used") // err has all of it
	}
	if h.Body != "" {
		req.Header.Set("Content-Type", httpsend.ContentType(h.Body))
	}
	req.Header.Set("User-Agent", s.userAgent)
	for name, value := range h.Headers {
		req.Header.Set(name, value)
	}
	if h.IdempotencyKey != "" {
		req.Header.Set(h.IdempotencyKey, d.ID.String())
	}
	if c != nil {
		if err := c.apply(req, h, token); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// succeeded reports whether status means that h was taken.
func succeeded(h dispatch.HTTP, status int) bool {
	if len(h.Success) > 0 {
		return slices.Contains(h.Success, status)
	}
	return status >= 200 && status <= 299
}

// failure is the error for an answer, or nil where the request was taken. once says
// that a request that does no harm twice is not to be repeated all the same.
func (s *Sender) failure(h dispatch.HTTP, res *httpsend.Response, once bool) *dispatch.Error {
	if succeeded(h, res.Status) {
		return nil
	}
	wish := httpsend.RetryAfter(res.Header, s.now())
	kind, why := httpsend.KindOfOnce(res.Status, wish), httpsend.Meaning(res.Status)
	if h.Repeatable() && !once {
		kind = httpsend.KindOf(res.Status)
	}
	switch {
	case kind == "":
		kind, why = dispatch.Rejected, "an answer that is none of the step's success codes"
	case res.Status == http.StatusUnauthorized && h.Credential != "":
		kind, why = dispatch.Down, fmt.Sprintf("the credential %s was not accepted", h.Credential)
	}
	e := failed(kind, res.Status, fmt.Errorf("%s %s: %s", h.Method, host(h.URL), why))
	if kind != dispatch.Rejected {
		e.RetryAfter = wish
	}
	return e
}

// host is what of a URL may be shown.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func failed(kind dispatch.Kind, status int, err error) *dispatch.Error {
	return &dispatch.Error{Channel: dispatch.ChannelHTTP, Kind: kind, Status: status, Err: err}
}
