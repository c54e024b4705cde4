package httpcall

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// oauthSender returns a sender with the credential "oauth" for api, and a request
// that uses it.
func oauthSender(t *testing.T, api *standin.API, change func(*OAuth2)) (*Sender, dispatch.HTTP) {
	t.Helper()
	o := &OAuth2{TokenURL: api.URL() + "/oauth2/token", ClientID: "client", ClientSecret: "client-canary"}
	if change != nil {
		change(o)
	}
	s := newSender(t, map[string]Credential{"oauth": {OAuth2: o}})
	return s, dispatch.HTTP{Method: "POST", URL: api.URL() + "/v1/things", Body: "{}", Credential: "oauth"}
}

func TestTokenIsFetchedOnce(t *testing.T) {
	for _, style := range []string{"", "header", "body"} {
		api := newAPI(t, nil)
		s, h := oauthSender(t, api, func(o *OAuth2) { o.Style, o.Params = style, map[string]string{"audience": "x"} })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, e := send(t, s, h); e != nil {
					t.Error(e)
				}
			})
		}
		wg.Wait()
		if all, forTokens := api.Requests(); all != 20 || forTokens != 1 {
			t.Errorf("style %q: %d requests and %d for tokens, want 20 and 1", style, all, forTokens)
		}
		for _, r := range api.Received() {
			if !strings.HasPrefix(r.Headers["Authorization"], "Bearer access-1-") {
				t.Errorf("sent with %q", r.Headers["Authorization"])
			}
		}
	}
}

func TestTokenIsRefreshedOncePerExpiry(t *testing.T) {
	api := newAPI(t, func(c *standin.APIConfig) { c.TTL = 60 })
	s, h := oauthSender(t, api, nil)
	var ahead atomic.Int64
	(*s.credentials.Load())["oauth"].tokens.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	for _, tt := range []struct {
		passed time.Duration
		tokens int
	}{{0, 1}, {45 * time.Second, 1}, {55 * time.Second, 2}} { // used until 50 s
		ahead.Store(int64(tt.passed))
		if _, e := send(t, s, h); e != nil {
			t.Fatal(e)
		}
		if _, forTokens := api.Requests(); forTokens != tt.tokens {
			t.Errorf("after %s: %d requests for tokens, want %d", tt.passed, forTokens, tt.tokens)
		}
	}
}

func TestRefreshToken(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		api := newAPI(t, func(c *standin.APIConfig) { c.RefreshToken, c.Rotate = "refresh-canary", rotate })
		s, h := oauthSender(t, api, func(o *OAuth2) { o.RefreshToken = "refresh-canary" })
		for n := range 3 {
			if _, e := send(t, s, h); e != nil {
				t.Errorf("rotate %t, token %d: %v", rotate, n+1, e)
			}
			api.Revoke()
		}
	}
}

// A token that the API does not accept any more costs one request more, and the
// delivery arrives once.
func TestTokenDroppedAfter401(t *testing.T) {
	api := newAPI(t, nil)
	s, h := oauthSender(t, api, func(o *OAuth2) { o.Style = "header" })
	h.IdempotencyKey = "Idempotency-Key"
	for range 2 {
		if _, e := send(t, s, h); e != nil {
			t.Fatal(e)
		}
		api.Revoke()
	}
	if all, forTokens := api.Requests(); all != 3 || forTokens != 2 || len(api.Received()) != 2 {
		t.Errorf("%d requests, %d for tokens, %d taken; want 3, 2 and 2", all, forTokens, len(api.Received()))
	}
}

// An API that accepts no token at all is asked twice at most in one attempt.
func TestTokenThatNobodyAccepts(t *testing.T) {
	api := newAPI(t, nil)
	s, h := oauthSender(t, api, func(o *OAuth2) { o.Style = "header" })
	api.Script(func(int, *http.Request) standin.HTTPReply {
		return standin.HTTPReply{Status: 401, Body: "client-canary"}
	})
	for n, want := range []int{1, 2} { // each token is fresh, so that it is not tried again
		_, e := send(t, s, h)
		if e == nil || e.Kind != dispatch.Down || e.Status != 401 || !strings.Contains(e.Error(), "oauth was not accepted") {
			t.Errorf("attempt %d: %v", n+1, e)
		}
		if all, forTokens := api.Requests(); all != want || forTokens != want {
			t.Errorf("after attempt %d: %d requests, %d for tokens", n+1, all, forTokens)
		}
	}
	h.Success = []int{401}
	if _, e := send(t, s, h); e != nil {
		t.Errorf("where 401 is a success: %v", e)
	}

	// Where another failure follows the 401, that is what came of it.
	api.Script(nil)
	h.Success = nil
	if _, e := send(t, s, h); e != nil {
		t.Fatal(e)
	}
	before, _ := api.Requests()
	api.Script(func(n int, _ *http.Request) standin.HTTPReply {
		if n == before+1 {
			return standin.HTTPReply{Status: 401}
		}
		return standin.HTTPReply{CutAfter: true}
	})
	if _, e := send(t, s, h); e == nil || e.Kind != dispatch.Unknown {
		t.Errorf("cut off after a 401: %v, want unknown", e)
	}
}

func TestTokenFailures(t *testing.T) {
	asJSON := http.Header{"Content-Type": {"application/json"}}
	const leak = " client-canary refresh-canary"
	for _, tt := range []struct {
		name  string
		reply standin.HTTPReply
		say   string
		wait  time.Duration
		asked int // by two attempts
	}{
		{"a wrong client", standin.HTTPReply{Status: 401, Header: asJSON, Body: `{"error": "invalid_client", "error_description": "` + leak + `"}`}, "client secret is wrong: invalid_client", 30 * time.Second, 1},
		{"a wrong grant", standin.HTTPReply{Status: 400, Header: asJSON, Body: `{"error": "invalid_grant", "error_uri": "` + leak + `"}`}, "invalid_grant", 30 * time.Second, 1},
		{"an error that is not in the standard", standin.HTTPReply{Status: 400, Header: asJSON, Body: `{"error": "` + leak + `"}`}, "Bad Request", 30 * time.Second, 1},
		{"a page", standin.HTTPReply{Status: 403, Body: "<html>" + leak}, "Forbidden", 30 * time.Second, 1},
		{"too fast", standin.HTTPReply{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: leak}, "Too Many Requests", 7 * time.Second, 1},
		{"a failure", standin.HTTPReply{Status: 500, Body: leak}, "Internal Server Error", 0, 2},
		{"a redirect to what is no address", standin.HTTPReply{Status: 307, Header: http.Header{"Location": {"http://[client-canary"}}}, "redirects are not followed", 0, 2},
		{"a redirect", standin.HTTPReply{Status: 307, Header: http.Header{"Location": {"http://127.0.0.1:1/client-canary"}}}, "redirects are not followed", 0, 2},
		{"no token", standin.HTTPReply{Status: 200, Header: asJSON, Body: `{"x": "` + leak + `"}`}, "no token that can be read", 0, 2},
		{"no JSON", standin.HTTPReply{Status: 200, Header: asJSON, Body: leak}, "no token that can be read", 0, 2},
		{"an error with a 200", standin.HTTPReply{Status: 200, Header: asJSON, Body: `{"error": "invalid_client"}`}, "invalid_client", 30 * time.Second, 1},
		{"another type", standin.HTTPReply{Status: 200, Header: asJSON, Body: `{"access_token": "x", "token_type": "mac"}`}, "other than bearer", 0, 2},
		{"a token with a line break", standin.HTTPReply{Status: 200, Header: asJSON, Body: `{"access_token": "x\r\nX-Evil: y"}`}, "cannot be sent", 0, 2},
		{"an endless answer", standin.HTTPReply{Status: 200, Header: asJSON, Body: `{"access_token": "` + strings.Repeat("x", 1<<20)}, "no token that can be read", 0, 2},
		{"cut off", standin.HTTPReply{CutBefore: true}, "POST 127.0.0.1", 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, nil)
			api.ScriptTokens(func(int, *http.Request) standin.HTTPReply { return tt.reply })
			s, h := oauthSender(t, api, func(o *OAuth2) { o.Style = "body" })
			for range 2 {
				_, e := send(t, s, h)
				if e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), tt.say) || !strings.Contains(e.Error(), "no token for the credential oauth from 127.0.0.1:") {
					t.Fatalf("got %v, want down and %q", e, tt.say)
				}
				if text := fmt.Sprintf("%v %+v %q", e, e, e.Err); strings.Contains(text, "canary") || strings.Contains(text, "token_type") || strings.Contains(text, "/oauth2") {
					t.Errorf("error text %s", text)
				}
				if off := e.RetryAfter - tt.wait; off < -2*time.Second || off > 0 {
					t.Errorf("RetryAfter = %s, want %s", e.RetryAfter, tt.wait)
				}
			}
			if all, forTokens := api.Requests(); all != 0 || forTokens != tt.asked {
				t.Errorf("%d requests and %d for tokens; want 0 and %d", all, forTokens, tt.asked)
			}
		})
	}
}

func TestTokenEndpointIsGuarded(t *testing.T) {
	api := newAPI(t, nil)
	s, h := oauthSender(t, api, func(o *OAuth2) { o.TokenURL = "http://10.1.2.3/token-canary" })
	_, e := send(t, s, h)
	if e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), "plain http is not allowed") || strings.Contains(e.Error(), "canary") {
		t.Errorf("got %v", e)
	}
}

// Who gives up waiting for a token does not end the wait of the others.
func TestTokenOfACallerThatLeft(t *testing.T) {
	api := newAPI(t, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	api.ScriptTokens(func(int, *http.Request) standin.HTTPReply {
		close(asked)
		<-answer
		return standin.HTTPReply{}
	})
	s, h := oauthSender(t, api, func(o *OAuth2) { o.Style = "body" })
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan *dispatch.Error), make(chan *dispatch.Error)
	go func() {
		_, e := sendIn(ctx, s, h)
		first <- e
	}()
	<-asked
	go func() {
		_, e := sendIn(t.Context(), s, h)
		second <- e
	}()
	cancel()
	if e := <-first; e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), "interrupted") {
		t.Errorf("the first got %v", e)
	}
	close(answer)
	if e := <-second; e != nil {
		t.Errorf("the second got %v", e)
	}
	if _, forTokens := api.Requests(); forTokens != 1 {
		t.Errorf("%d requests for tokens", forTokens)
	}
}

// A token is fetched for all who wait for it, also where the first of them is late.
func TestTokenOfACallerThatIsLate(t *testing.T) {
	api := newAPI(t, nil)
	s, h := oauthSender(t, api, nil)
	_, e := sendIn(dispatch.WithOurs(t.Context(), func() bool { return false }), s, h)
	if e == nil || !errors.Is(e, dispatch.ErrLate) {
		t.Errorf("the late one got %v", e)
	}
	if all, forTokens := api.Requests(); all != 0 || forTokens != 1 {
		t.Errorf("%d requests and %d for tokens, want 0 and 1", all, forTokens)
	}
}

func TestTokenDeadline(t *testing.T) {
	api := newAPI(t, nil)
	api.ScriptTokens(func(int, *http.Request) standin.HTTPReply { return standin.HTTPReply{Hang: true} })
	s, h := oauthSender(t, api, func(o *OAuth2) { o.Style = "body" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Send(ctx, delivery(h))
	e, _ := errors.AsType[*dispatch.Error](err)
	if e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
}
