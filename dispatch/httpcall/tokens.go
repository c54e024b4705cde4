package httpcall

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

const (
	tokenTimeout = 10 * time.Second // for one request to a token endpoint and its answer

	// A token is not used in its last seconds, so that it does not run out on the
	// way.
	tokenMargin = 10 * time.Second

	// A token endpoint that has refused a credential is not asked again sooner:
	// many lock an account that goes on trying.
	refusedPause = 30 * time.Second
)

// tokens gets the access tokens of one credential and keeps the last one. However
// many ask, one request is under way at a time.
type tokens struct {
	name   string
	host   string // of the endpoint
	fetch  func(ctx context.Context, refresh string) (*oauth2.Token, error)
	client *http.Client
	now    func() time.Time // the host's, as of Expiry
	clock  func() time.Time // that a Retry-After is held against
	flight singleflight.Group

	mu      sync.Mutex
	token   *oauth2.Token // nil: none, or dropped
	refresh string        // the refresh token; "" with client credentials
	refusal *dispatch.Error
	until   time.Time // the refusal holds
}

func newTokens(name string, o OAuth2, guarded *http.Client, clock func() time.Time) *tokens {
	t := &tokens{
		name:    name,
		host:    host(o.TokenURL),
		client:  &http.Client{Transport: tokenTransport{guarded}, CheckRedirect: guarded.CheckRedirect},
		now:     time.Now,
		clock:   clock,
		refresh: o.RefreshToken.Reveal(),
	}
	style := oauth2.AuthStyleAutoDetect
	switch o.Style {
	case "header":
		style = oauth2.AuthStyleInHeader
	case "body":
		style = oauth2.AuthStyleInParams
	}
	if o.RefreshToken != "" {
		cfg := &oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), Scopes: o.Scopes,
			Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL, AuthStyle: style},
		}
		t.fetch = func(ctx context.Context, refresh string) (*oauth2.Token, error) {
			return cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
		}
		return t
	}
	params := url.Values{}
	for name, value := range o.Params {
		params.Set(name, value)
	}
	cfg := &clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), Scopes: o.Scopes,
		TokenURL: o.TokenURL, EndpointParams: params, AuthStyle: style,
	}
	t.fetch = func(ctx context.Context, _ string) (*oauth2.Token, error) { return cfg.Token(ctx) }
	return t
}

// get returns a token that is good for a while, and whether it is new. Its error
// is Down: no request left that a delivery is about.
func (t *tokens) get(ctx context.Context) (token string, fresh bool, e *dispatch.Error) {
	if token, e := t.cached(); token != "" || e != nil {
		return token, false, e
	}
	// The request belongs to all who wait for it, so that it does not end with
	// the first of them, nor with what that one may send.
	shared := dispatch.WithOurs(context.WithoutCancel(ctx), func() bool { return true })
	done := t.flight.DoChan("", func() (any, error) { return t.renew(shared) })
	select {
	case <-ctx.Done():
		why := "interrupted"
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			why = "no answer in time"
		}
		return "", false, failed(dispatch.Down, 0, t.errorf("%s", why))
	case r := <-done:
		if r.Err != nil {
			return "", false, dispatch.AsError(dispatch.ChannelHTTP, r.Err)
		}
		return r.Val.(string), true, nil
	}
}

// cached returns the token that is there, or the refusal that still holds.
func (t *tokens) cached() (string, *dispatch.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.token != nil && (t.token.Expiry.IsZero() || now.Add(tokenMargin).Before(t.token.Expiry)) {
		return t.token.AccessToken, nil
	}
	if wait := t.until.Sub(now); wait > 0 {
		e := *t.refusal
		e.RetryAfter = wait
		return "", &e
	}
	return "", nil
}

// drop forgets token, which a receiver did not accept.
func (t *tokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token != nil && t.token.AccessToken == token {
		t.token = nil
	}
}

// renew gets a token and keeps it.
func (t *tokens) renew(ctx context.Context) (string, error) {
	if token, e := t.cached(); e != nil { // a flight that landed just before
		return "", e
	} else if token != "" {
		return token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	t.mu.Lock()
	refresh := t.refresh
	t.mu.Unlock()

	got, err := t.fetch(context.WithValue(ctx, oauth2.HTTPClient, t.client), refresh)
	switch {
	case err != nil:
		return "", t.failed(err)
	case !strings.EqualFold(got.Type(), "Bearer"):
		return "", failed(dispatch.Down, 0, t.errorf("its tokens are of a type other than bearer"))
	case !sendable(got.AccessToken):
		return "", failed(dispatch.Down, 0, t.errorf("its token cannot be sent in a header"))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token = got
	if refresh != "" && got.RefreshToken != "" {
		t.refresh = got.RefreshToken
	}
	return got.AccessToken, nil
}

// oauthCodes are the errors of a token endpoint (RFC 6749, 5.2), in words. What
// else it writes may repeat what it was sent.
var oauthCodes = map[string]string{
	"invalid_request":        "the token request was refused: invalid_request; the style, the scopes or the parameters may be wrong",
	"invalid_client":         "the client id or the client secret is wrong: invalid_client",
	"invalid_grant":          "the refresh token is wrong, was withdrawn or has run out: invalid_grant",
	"unauthorized_client":    "the client may not get tokens in this way: unauthorized_client",
	"unsupported_grant_type": "the endpoint does not give tokens in this way: unsupported_grant_type",
	"invalid_scope":          "a scope is wrong: invalid_scope",
}

// failed is the error for a token that was not to be had.
func (t *tokens) failed(err error) *dispatch.Error {
	if e, ok := errors.AsType[*dispatch.Error](err); ok { // no answer came
		return failed(dispatch.Down, 0, t.errorf("%w", e.Err))
	}
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || answer.Response == nil {
		return failed(dispatch.Down, 0, t.errorf("its answer has no token that can be read"))
	}
	status := answer.Response.StatusCode
	why, configured := oauthCodes[answer.ErrorCode]
	if !configured {
		why = httpsend.Meaning(status)
		configured = status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden
	}
	e := failed(dispatch.Down, status, t.errorf("%s", why))
	e.RetryAfter = httpsend.RetryAfter(answer.Response.Header, t.clock())
	if configured {
		e.RetryAfter = max(e.RetryAfter, refusedPause)
	}
	if e.RetryAfter > 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refusal, t.until = e, t.now().Add(e.RetryAfter)
	}
	return e
}

// errorf says whose token was not to be had, and where.
func (t *tokens) errorf(format string, args ...any) error {
	return fmt.Errorf("no token for the credential %s from %s: "+format, append([]any{t.name, t.host}, args...)...)
}

// tokenTransport is httpsend.Do for the library that asks for tokens: one request,
// a bounded answer, and errors that can be shown.
type tokenTransport struct{ client *http.Client }

// RoundTrip implements http.RoundTripper.
func (t tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, e := httpsend.Do(t.client, dispatch.ChannelHTTP, req, 0)
	if e != nil {
		return nil, e
	}
	res.Header.Del("Location") // it is not followed, and where it is no address the library would lose the answer
	return res.HTTP(req), nil
}
