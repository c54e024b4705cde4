package standin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

const maxAPIBody = 1 << 20

// APIConfig says what an API expects of its clients. Values that are "" are not
// looked at.
type APIConfig struct {
	ClientID     string
	ClientSecret string
	RefreshToken string // clients have to show it; "" means client credentials
	Rotate       bool   // each token comes with a new refresh token, and the old one ends
	TTL          int    // of tokens, in seconds; 0 means an hour
}

// API is a service on a loopback address that takes plain requests:
//
//	POST /oauth2/token      gives access tokens (RFC 6749, 4.4 and 6)
//	POST /mp/collect        takes hits as GA4's Measurement Protocol does: 204,
//	                        whatever is in them
//	POST /v1/things         makes a thing and answers with its id, once for each
//	                        Idempotency-Key; wants a token as all below /v1/ do
//	GET, PUT, PATCH, DELETE /v1/things/{id}
type API struct {
	cfg      APIConfig
	server   *http.Server
	listener net.Listener
	served   chan struct{}

	mu          sync.Mutex
	script      func(n int, r *http.Request) HTTPReply
	tokenScript func(n int, r *http.Request) HTTPReply
	callback    func(Received)
	received    []Received
	things      map[string]string // by Idempotency-Key, where there was one
	tokens      map[string]bool   // that are good
	refresh     string
	requests    int
	tokensAsked int
	tokensGiven int
}

// NewAPI starts an API. Close it after use.
func NewAPI(cfg APIConfig) (*API, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &API{cfg: cfg, listener: l, served: make(chan struct{}), things: map[string]string{}, tokens: map[string]bool{}, refresh: cfg.RefreshToken}
	if a.cfg.TTL == 0 {
		a.cfg.TTL = 3600
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", a.token)
	mux.HandleFunc("POST /mp/collect", a.collect)
	mux.HandleFunc("POST /v1/things", a.create)
	mux.HandleFunc("/v1/things/{id}", a.thing)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(l)
	}()
	return a, nil
}

// URL is the address that the paths follow.
func (a *API) URL() string { return "http://" + a.listener.Addr().String() }

// Received returns what it took but for requests for tokens, oldest first.
// Recipient is the method and the path with its query, ID the Idempotency-Key.
func (a *API) Received() []Received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.received)
}

// Requests returns how many requests came, tokens apart, and how many for tokens.
func (a *API) Requests() (all, forTokens int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests, a.tokensAsked
}

// Script replaces what it does with requests that it would take, from the next
// one on; n counts all requests but those for tokens, from 1. nil takes everything
// again. The body of r may be read.
func (a *API) Script(f func(n int, r *http.Request) HTTPReply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script = f
}

// OnReceive has f called with each request that it takes, before it answers.
func (a *API) OnReceive(f func(Received)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.callback = f
}

// ScriptTokens is Script for requests for tokens.
func (a *API) ScriptTokens(f func(n int, r *http.Request) HTTPReply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokenScript = f
}

// Revoke ends all tokens that it gave.
func (a *API) Revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.tokens)
}

// Close ends all connections and waits for the listener to stop.
func (a *API) Close() error {
	err := a.server.Close()
	<-a.served
	return err
}

// token gives a token to a client that says who it is, in the header or the body.
func (a *API) token(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, maxAPIBody)
	id, secret, inHeader := r.BasicAuth()
	if !inHeader {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	grant, refresh := r.PostFormValue("grant_type"), r.PostFormValue("refresh_token")

	a.mu.Lock()
	a.tokensAsked++
	n, script := a.tokensAsked, a.tokenScript
	a.mu.Unlock()
	if script != nil {
		if reply := script(n, r); reply.Status != 0 || reply.Hang || reply.CutBefore || reply.CutAfter {
			reply.answer(rw, r)
			return
		}
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := "client_credentials"
	if a.refresh != "" {
		wanted = "refresh_token"
	}
	switch {
	case a.cfg.ClientID != "" && id != a.cfg.ClientID, a.cfg.ClientSecret != "" && secret != a.cfg.ClientSecret:
		answer(rw, http.StatusUnauthorized, `{"error": "invalid_client"}`)
	case grant != wanted:
		answer(rw, http.StatusBadRequest, `{"error": "unsupported_grant_type"}`)
	case refresh != a.refresh:
		answer(rw, http.StatusBadRequest, `{"error": "invalid_grant"}`)
	default:
		answer(rw, http.StatusOK, a.newToken())
	}
}

// newToken is the answer with a new token. a.mu is held.
func (a *API) newToken() string {
	a.tokensGiven++
	token := fmt.Sprintf("access-%d-of-%s", a.tokensGiven, a.listener.Addr())
	a.tokens[token] = true
	more := ""
	if a.refresh != "" && a.cfg.Rotate {
		a.refresh = fmt.Sprintf("refresh-%d-of-%s", a.tokensGiven, a.listener.Addr())
		more = fmt.Sprintf(`, "refresh_token": %q`, a.refresh)
	}
	return fmt.Sprintf(`{"access_token": %q, "token_type": "Bearer", "expires_in": %d%s}`, token, a.cfg.TTL, more)
}

// collect takes a hit. The real one says 2xx to whatever arrives; see
// https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference
func (a *API) collect(rw http.ResponseWriter, r *http.Request) {
	a.take(rw, r, func() HTTPReply { return HTTPReply{Status: http.StatusNoContent} })
}

func (a *API) create(rw http.ResponseWriter, r *http.Request) {
	if !a.allowed(rw, r) {
		return
	}
	a.take(rw, r, func() HTTPReply {
		key := r.Header.Get("Idempotency-Key")
		id := a.things[key]
		if key == "" || id == "" {
			id = fmt.Sprintf("thing_%d", len(a.received))
		}
		if key != "" {
			a.things[key] = id
		}
		return thing(http.StatusCreated, id)
	})
}

func (a *API) thing(rw http.ResponseWriter, r *http.Request) {
	if !a.allowed(rw, r) {
		return
	}
	a.take(rw, r, func() HTTPReply {
		if r.Method == http.MethodDelete {
			return HTTPReply{Status: http.StatusNoContent}
		}
		return thing(http.StatusOK, r.PathValue("id"))
	})
}

// thing is the answer about a thing. Its number is one that a float does not hold.
func thing(status int, id string) HTTPReply {
	return HTTPReply{
		Status: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: fmt.Sprintf(`{"data": {"id": %q, "number": 9007199254740993, "price": 19.90}, "items": [{"id": %q}, {"id": null}]}`, id, id+"/0"),
	}
}

// allowed answers 401 to a request without a token that is good.
func (a *API) allowed(rw http.ResponseWriter, r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	good := a.cfg.ClientID == "" || a.tokens[token]
	if !good {
		a.requests++
	}
	a.mu.Unlock()
	if !good {
		rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		answer(rw, http.StatusUnauthorized, `{"error": "invalid_token"}`)
	}
	return good
}

// take remembers a request and answers it: as the script says, where that says
// something, and otherwise as usual does, which is called with a.mu held.
func (a *API) take(rw http.ResponseWriter, r *http.Request, usual func() HTTPReply) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxAPIBody))
	if err != nil {
		http.Error(rw, "too large or broken off", http.StatusRequestEntityTooLarge)
		return
	}
	a.mu.Lock()
	a.requests++
	n, script := a.requests, a.script
	a.mu.Unlock()
	var reply HTTPReply
	if script != nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		reply = script(n, r)
	}
	if !reply.CutBefore && (reply.Status == 0 || reply.takes()) {
		a.mu.Lock()
		got := Received{
			Channel:   dispatch.ChannelHTTP,
			ID:        r.Header.Get("Idempotency-Key"),
			Recipient: r.Method + " " + r.URL.RequestURI(),
			Body:      string(body),
			Headers:   shownHeaders(r.Header),
			At:        time.Now(),
		}
		a.received = append(a.received, got)
		normal, callback := usual(), a.callback
		a.mu.Unlock()
		if callback != nil {
			callback(got)
		}
		if reply.Status == 0 {
			reply.Status, reply.Header, reply.Body = normal.Status, normal.Header, normal.Body
		}
	}
	reply.answer(rw, r)
}
