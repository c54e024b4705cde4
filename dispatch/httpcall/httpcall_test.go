package httpcall

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

var loopback = httpsend.Reach{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// newAPI returns an API that knows the client "client" with "client-canary".
func newAPI(t *testing.T, change func(*standin.APIConfig)) *standin.API {
	t.Helper()
	cfg := standin.APIConfig{ClientID: "client", ClientSecret: "client-canary"}
	if change != nil {
		change(&cfg)
	}
	api, err := standin.NewAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return api
}

func newSender(t *testing.T, credentials map[string]Credential) *Sender {
	t.Helper()
	s, err := New(Config{Credentials: credentials, Reach: loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func delivery(h dispatch.HTTP) *dispatch.Delivery {
	return sendertest.NewDelivery(dispatch.ChannelHTTP, h.URL, h)
}

func send(t *testing.T, s *Sender, h dispatch.HTTP) (dispatch.Receipt, *dispatch.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return sendIn(ctx, s, h)
}

func sendIn(ctx context.Context, s *Sender, h dispatch.HTTP) (dispatch.Receipt, *dispatch.Error) {
	r, err := s.Send(ctx, delivery(h))
	e, _ := errors.AsType[*dispatch.Error](err)
	return r, e
}

// hit is what a GA4 hook is sent.
func hit(api *standin.API) dispatch.HTTP {
	return dispatch.HTTP{
		Method: "POST", URL: api.URL() + "/mp/collect?measurement_id=G-1&debug=path-canary", Credential: "ga4",
		Body: `{"client_id": "1.2", "events": [{"name": "generate_lead", "params": {"value": 19.90}}]}`,
	}
}

var ga4 = map[string]Credential{"ga4": {Query: map[string]dispatch.Secret{"api_secret": "query-canary&="}}}

func TestSuite(t *testing.T) {
	api := newAPI(t, nil)
	answer := func(r standin.HTTPReply) func() {
		return func() {
			api.Script(func(int, *http.Request) standin.HTTPReply { return r })
		}
	}
	status := func(code int, header ...string) func() {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return answer(standin.HTTPReply{Status: code, Header: h, Body: "query-canary&= path-canary"})
	}
	repeatable := func(change func(*dispatch.HTTP)) *dispatch.Delivery {
		h := hit(api)
		change(&h)
		return delivery(h)
	}
	idempotent := func(h *dispatch.HTTP) { h.Idempotent = true }
	sendertest.Run(t, sendertest.Suite{
		Channel:  dispatch.ChannelHTTP,
		New:      func(t *testing.T) dispatch.Sender { return newSender(t, ga4) },
		Delivery: func() *dispatch.Delivery { return delivery(hit(api)) },
		Accept:   func() { api.Script(nil) },
		Taken:    func() int { return len(api.Received()) },
		Hang:     answer(standin.HTTPReply{Hang: true}),
		Flood:    answer(standin.HTTPReply{Status: 200, Body: strings.Repeat("x", 64<<20)}),
		Secrets:  []string{"query-canary&=", "query-canary", "path-canary"},
		Cases: []sendertest.Case{
			{Name: "204", Prepare: status(204), Status: 204},
			{Name: "201", Prepare: status(201), Status: 201},
			{
				Name: "one of the success codes", Prepare: status(404), Status: 404,
				Delivery: repeatable(func(h *dispatch.HTTP) { h.Success = []int{204, 404} }),
			},
			{
				Name: "a 2xx that is none of the success codes", Prepare: status(202), Status: 202, Kind: dispatch.Rejected,
				Delivery: repeatable(func(h *dispatch.HTTP) { h.Success = []int{200} }),
			},
			{Name: "301", Prepare: status(301, "Location", "https://example.com/"), Kind: dispatch.Rejected, Status: 301},
			{Name: "400", Prepare: status(400), Kind: dispatch.Rejected, Status: 400},
			{Name: "401 with a credential", Prepare: status(401), Kind: dispatch.Down, Status: 401},
			{
				Name: "401 without one", Prepare: status(401), Kind: dispatch.Rejected, Status: 401,
				Delivery: repeatable(func(h *dispatch.HTTP) { h.Credential = "" }),
			},
			{Name: "403", Prepare: status(403), Kind: dispatch.Rejected, Status: 403},
			{Name: "408", Prepare: status(408), Kind: dispatch.Down, Status: 408},
			{Name: "409", Prepare: status(409), Kind: dispatch.Rejected, Status: 409},
			{Name: "425", Prepare: status(425), Kind: dispatch.Down, Status: 425},
			{Name: "429 in seconds", Prepare: status(429, "Retry-After", "30"), Kind: dispatch.Throttled, Status: 429, RetryAfter: 30 * time.Second},
			{
				Name: "500 to what does no harm twice, and is not to be sent twice", Prepare: status(500), Kind: dispatch.Unknown, Status: 500,
				Delivery: func() *dispatch.Delivery { d := repeatable(idempotent); d.Once = true; return d }(),
			},
			{Name: "500", Prepare: status(500), Kind: dispatch.Unknown, Status: 500},
			{Name: "500 where a repeat does no harm", Prepare: status(500), Kind: dispatch.Down, Status: 500, Delivery: repeatable(idempotent)},
			{Name: "502", Prepare: status(502), Kind: dispatch.Unknown, Status: 502},
			{
				Name: "502 with an idempotency key", Prepare: status(502), Kind: dispatch.Down, Status: 502,
				Delivery: repeatable(func(h *dispatch.HTTP) { h.IdempotencyKey = "Idempotency-Key" }),
			},
			{Name: "503", Prepare: status(503), Kind: dispatch.Unknown, Status: 503},
			{Name: "503 where a repeat does no harm", Prepare: status(503), Kind: dispatch.Down, Status: 503, Delivery: repeatable(idempotent)},
			{Name: "503 with a wish", Prepare: status(503, "Retry-After", "7"), Kind: dispatch.Down, Status: 503, RetryAfter: 7 * time.Second},
			{Name: "504", Prepare: status(504), Kind: dispatch.Unknown, Status: 504},
			{Name: "504 where a repeat does no harm", Prepare: status(504), Kind: dispatch.Unknown, Status: 504, Delivery: repeatable(idempotent)},
			{Name: "cut before it was taken", Prepare: answer(standin.HTTPReply{CutBefore: true}), Kind: dispatch.Unknown},
			{Name: "cut after it was taken", Prepare: answer(standin.HTTPReply{CutAfter: true}), Kind: dispatch.Unknown},
			{
				Name: "nobody there", Prepare: func() {}, Kind: dispatch.Down,
				Delivery: delivery(dispatch.HTTP{Method: "GET", URL: "http://127.0.0.1:1/path-canary"}),
			},
			{
				Name: "not allowed there", Prepare: func() {}, Kind: dispatch.Rejected,
				Delivery: delivery(dispatch.HTTP{Method: "GET", URL: "http://10.1.2.3/path-canary"}),
			},
			{
				Name: "a credential that is not configured", Prepare: func() {}, Kind: dispatch.Down,
				Delivery: repeatable(func(h *dispatch.HTTP) { h.Credential = "other" }),
			},
		},
	})
}

func TestSendLooksTheSameOnEachAttempt(t *testing.T) {
	api := newAPI(t, nil)
	s := newSender(t, map[string]Credential{"all": {
		Basic:  &Basic{User: "ann", Password: "pass:word"},
		Query:  map[string]dispatch.Secret{"api_secret": "a&b=c d"},
		Header: map[string]dispatch.Secret{"x-api-key": "key"},
	}})
	d := delivery(dispatch.HTTP{
		Method: "POST", URL: api.URL() + "/mp/collect?b=2&a=%20", Credential: "all", Body: `{"n": 9007199254740993}`,
		Headers: map[string]string{"X-Kind": "test"}, IdempotencyKey: "idempotency-key",
	})
	for n := range 2 {
		d.Attempt = n + 1
		if _, err := s.Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	got := api.Received()
	if len(got) != 2 {
		t.Fatalf("received %d, want 2", len(got))
	}
	want := map[string]string{
		"Authorization": "Basic YW5uOnBhc3M6d29yZA==", "X-Api-Key": "key", "X-Kind": "test", "Idempotency-Key": d.ID.String(),
		"Content-Type": "application/json", "User-Agent": "outbox-listener",
	}
	for _, r := range got {
		if r.Recipient != "POST /mp/collect?b=2&a=%20&api_secret=a%26b%3Dc+d" || r.Body != `{"n": 9007199254740993}` || !maps.Equal(r.Headers, want) {
			t.Errorf("received %+v", r)
		}
	}
}

func TestSendMethods(t *testing.T) {
	api := newAPI(t, func(cfg *standin.APIConfig) { cfg.ClientID = "" })
	s := newSender(t, nil)
	for _, tt := range []struct {
		method, path, body string
		headers            map[string]string
		typ                string
	}{
		{"GET", "/v1/things/7", "", nil, ""},
		{"DELETE", "/v1/things/7", "", nil, ""},
		{"PUT", "/v1/things/7", `{"a": 1}`, nil, "application/json"},
		{"PATCH", "/v1/things/7", `a=1`, map[string]string{"content-type": "application/x-www-form-urlencoded"}, "application/x-www-form-urlencoded"},
		{"POST", "/v1/things", "", nil, ""},
		{"POST", "/v1/things", "plain", nil, "text/plain; charset=utf-8"},
	} {
		r, e := send(t, s, dispatch.HTTP{Method: tt.method, URL: api.URL() + tt.path, Body: tt.body, Headers: tt.headers})
		if e != nil {
			t.Errorf("%s: %v", tt.method, e)
			continue
		}
		all := api.Received()
		got := all[len(all)-1]
		if got.Recipient != tt.method+" "+tt.path || got.Body != tt.body || got.Headers["Content-Type"] != tt.typ || r.Answer != nil {
			t.Errorf("%s came as %+v, with the answer %s", tt.method, got, r.Answer)
		}
	}
}

func TestSendFollowsNoRedirect(t *testing.T) {
	api := newAPI(t, nil)
	s := newSender(t, ga4)
	var came atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
	defer inside.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		api.Script(func(int, *http.Request) standin.HTTPReply {
			return standin.HTTPReply{Status: status, Header: http.Header{"Location": {inside.URL}}}
		})
		h := hit(api)
		if _, e := send(t, s, h); e == nil || e.Kind != dispatch.Rejected || e.Status != status {
			t.Errorf("%d: %v, want rejected", status, e)
		}
		h.Success = []int{status}
		if _, e := send(t, s, h); e != nil {
			t.Errorf("%d as a success: %v", status, e)
		}
	}
	if came.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// net/http would send the last of these again by itself: a GET, and what has an
// idempotency header.
func TestSendsOnceOnDeadKeepAlive(t *testing.T) {
	for _, h := range []dispatch.HTTP{
		{Method: "GET"},
		{Method: "DELETE", IdempotencyKey: "Idempotency-Key"},
		{Method: "POST", IdempotencyKey: "X-Idempotency-Key"},
		{Method: "POST", IdempotencyKey: "Idempotency-Key", Body: "{}"},
		{Method: "PUT", IdempotencyKey: "Idempotency-Key", Body: "{}"},
	} {
		t.Run(h.Method+" "+h.Body+" "+h.IdempotencyKey, func(t *testing.T) {
			var taken atomic.Int32
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						for r := bufio.NewReader(c); ; {
							req, err := http.ReadRequest(r)
							if err != nil {
								return
							}
							io.Copy(io.Discard, req.Body)
							if h.IdempotencyKey != "" && req.Header.Get(h.IdempotencyKey) == "" {
								t.Errorf("%s is missing", h.IdempotencyKey)
							}
							if taken.Add(1) > 3 {
								return
							}
							io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
						}
					}()
				}
			}()
			s := newSender(t, nil)
			h.URL = "http://" + l.Addr().String()
			for n := range 4 {
				_, e := send(t, s, h)
				if n < 3 && e != nil || n == 3 && (e == nil || e.Kind != dispatch.Unknown) {
					t.Errorf("request %d: %v", n+1, e)
				}
			}
			if taken.Load() != 4 {
				t.Errorf("taken %d times, want 4", taken.Load())
			}
		})
	}
}

func TestCredentialStaysWhereItBelongs(t *testing.T) {
	api := newAPI(t, nil)
	host := strings.TrimPrefix(api.URL(), "http://")
	credential := func(hosts ...string) map[string]Credential {
		return map[string]Credential{"ga4": {Query: map[string]dispatch.Secret{"api_secret": "x"}, Header: map[string]dispatch.Secret{"X-Key": "y"}, Hosts: hosts}}
	}
	for _, tt := range []struct {
		name   string
		hosts  []string
		change func(*dispatch.HTTP)
		want   string // a part of the error; "" means taken
	}{
		{"any host", nil, nil, ""},
		{"this host and port", []string{host}, nil, ""},
		{"this host", []string{"example.com", "127.0.0.1"}, nil, ""},
		{"another host", []string{"example.com"}, nil, "not for this host; its hosts are example.com"},
		{"another port", []string{"127.0.0.1:1"}, nil, "not for this host"},
		{"a parameter twice", nil, func(h *dispatch.HTTP) { h.URL += "&api_secret=mine" }, "has the parameter api_secret"},
		{"a header twice", nil, func(h *dispatch.HTTP) { h.Headers = map[string]string{"x-key": "mine"} }, "sets the header X-Key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := api.Requests()
			s := newSender(t, credential(tt.hosts...))
			h := hit(api)
			if tt.change != nil {
				tt.change(&h)
			}
			_, e := send(t, s, h)
			after, _ := api.Requests()
			switch {
			case tt.want == "" && e != nil:
				t.Error(e)
			case tt.want != "" && (e == nil || e.Kind != dispatch.Rejected || !strings.Contains(e.Error(), tt.want) || after != before):
				t.Errorf("%v after %d requests, want a rejection that says %q", e, after-before, tt.want)
			}
		})
	}
}

func TestSetCredentials(t *testing.T) {
	api := newAPI(t, nil)
	s := newSender(t, map[string]Credential{
		"ga4":   {Query: map[string]dispatch.Secret{"api_secret": "old"}},
		"oauth": {OAuth2: &OAuth2{TokenURL: api.URL() + "/oauth2/token", ClientID: "client", ClientSecret: "client-canary", Scopes: []string{"a"}, Style: "header"}},
	})
	thing := dispatch.HTTP{Method: "GET", URL: api.URL() + "/v1/things/1", Credential: "oauth"}
	if _, e := send(t, s, thing); e != nil {
		t.Fatal(e)
	}

	bad := map[string]Credential{"ga4": {Query: map[string]dispatch.Secret{"api_secret": "new"}}, "b": {}, "a": {}}
	err := s.SetCredentials(bad)
	if err == nil || !strings.HasPrefix(err.Error(), `credential "a": it has nothing to send`) || !strings.Contains(err.Error(), `credential "b"`) {
		t.Errorf("SetCredentials = %v", err)
	}
	if _, e := send(t, s, hit(api)); e != nil {
		t.Error(e)
	}
	if got := api.Received(); !strings.Contains(got[len(got)-1].Recipient, "api_secret=old") {
		t.Errorf("after a refusal it sends %s", got[len(got)-1].Recipient)
	}

	next := map[string]Credential{
		"ga4":   {Query: map[string]dispatch.Secret{"api_secret": "new"}},
		"oauth": {OAuth2: &OAuth2{TokenURL: api.URL() + "/oauth2/token", ClientID: "client", ClientSecret: "client-canary", Scopes: []string{"a"}, Style: "header"}},
	}
	if err := s.SetCredentials(next); err != nil {
		t.Fatal(err)
	}
	for _, h := range []dispatch.HTTP{thing, hit(api)} {
		if _, e := send(t, s, h); e != nil {
			t.Error(e)
		}
	}
	if got := api.Received(); !strings.Contains(got[len(got)-1].Recipient, "api_secret=new") {
		t.Errorf("it sends %s", got[len(got)-1].Recipient)
	}
	if _, forTokens := api.Requests(); forTokens != 1 {
		t.Errorf("asked for %d tokens; the credential is the same, so that its token holds", forTokens)
	}

	if err := s.SetCredentials(nil); err != nil {
		t.Fatal(err)
	}
	if _, e := send(t, s, thing); e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), "oauth is not configured") {
		t.Errorf("without credentials: %v", e)
	}
}

func TestCredentialCheck(t *testing.T) {
	oauth := func(change func(*OAuth2)) Credential {
		o := &OAuth2{TokenURL: "https://example.com/token", ClientID: "id", ClientSecret: "secret-canary"}
		change(o)
		return Credential{OAuth2: o}
	}
	type secrets = map[string]dispatch.Secret
	for _, tt := range []struct {
		name string
		c    Credential
		want string // "" means that it is accepted
	}{
		{"bearer", Credential{Bearer: "secret-canary"}, ""},
		{"a key as the user", Credential{Basic: &Basic{User: "secret-canary"}}, ""},
		{"a parameter beside bearer", Credential{Bearer: "x", Query: secrets{"a": "b"}, Header: secrets{"X-A": "b"}}, ""},
		{"a cookie", Credential{Header: secrets{"Cookie": "a=secret-canary"}}, ""},
		{"an authorization of its own kind", Credential{Header: secrets{"Authorization": "ApiKey secret-canary"}}, ""},
		{"client credentials", oauth(func(*OAuth2) {}), ""},
		{"a refresh token without a secret", oauth(func(o *OAuth2) { o.ClientSecret, o.RefreshToken = "", "x" }), ""},
		{"hosts", Credential{Bearer: "x", Hosts: []string{"example.com", "example.com:8443", "[::1]:80"}}, ""},
		{"nothing", Credential{}, "nothing to send"},
		{"two of a kind", Credential{Bearer: "secret-canary", Basic: &Basic{User: "a"}}, "only one can be sent"},
		{"a line break", Credential{Bearer: "secret-canary\n"}, "bearer has"},
		{"an empty pair", Credential{Basic: &Basic{}}, "basic needs"},
		{"a colon", Credential{Basic: &Basic{User: "secret:canary", Password: "x"}}, "colon"},
		{"an empty parameter", Credential{Query: secrets{"a": ""}}, "without a value"},
		{"an empty header", Credential{Header: secrets{"X-A": ""}}, "has no value"},
		{"a header that is none", Credential{Header: secrets{"X A": "secret-canary"}}, "not a header name"},
		{"a header with a line break", Credential{Header: secrets{"Cookie": "secret-canary\r\nX: y"}}, "line break"},
		{"a header of the connection", Credential{Header: secrets{"Host": "secret-canary"}}, "cannot be set there"},
		{"authorization twice", Credential{Bearer: "x", Header: secrets{"authorization": "secret-canary"}}, "sets already"},
		{"a host with a path", Credential{Bearer: "x", Hosts: []string{"example.com/a"}}, "hosts has"},
		{"a host with a star", Credential{Bearer: "x", Hosts: []string{"*.example.com"}}, "hosts has"},
		{"an empty host", Credential{Bearer: "x", Hosts: []string{""}}, "hosts has"},
		{"no token URL", oauth(func(o *OAuth2) { o.TokenURL = "" }), "token URL"},
		{"a token URL with a password", oauth(func(o *OAuth2) { o.TokenURL = "https://a:secret-canary@example.com" }), "token URL"},
		{"no client", oauth(func(o *OAuth2) { o.ClientID = "" }), "client id"},
		{"no secret", oauth(func(o *OAuth2) { o.ClientSecret = "" }), "client secret or a refresh token"},
		{"a style", oauth(func(o *OAuth2) { o.Style = "secret-canary" }), "style"},
		{"a parameter of our own", oauth(func(o *OAuth2) { o.Params = map[string]string{"scope": "secret-canary"} }), "set otherwise"},
		{"parameters with a refresh token", oauth(func(o *OAuth2) { o.RefreshToken, o.Params = "x", map[string]string{"a": "b"} }), "do not go"},
	} {
		_, err := New(Config{Credentials: map[string]Credential{"api": tt.c}})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), `credential "api": `)):
			t.Errorf("%s: %v, want it to say %q", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the secret is in %v", tt.name, err)
		}
	}
	if _, err := New(Config{Credentials: map[string]Credential{"": {Bearer: "x"}}}); err == nil {
		t.Error("a credential without a name was accepted")
	}
}

func TestThroughDispatcher(t *testing.T) {
	api := newAPI(t, nil)
	d := dispatch.New()
	d.Register(dispatch.ChannelHTTP, newSender(t, ga4), Policy)
	del := delivery(hit(api))
	if got, want := d.Destination(del), "http "+strings.TrimPrefix(api.URL(), "http://"); got != want {
		t.Errorf("destination %q, want %q", got, want)
	}
	if _, e := d.Send(t.Context(), del); e != nil {
		t.Fatal(e)
	}
	del.Content = json.RawMessage(`7`)
	if got := d.Destination(del); got != "http " {
		t.Errorf("destination of nonsense: %q", got)
	}
	p := d.Policy(dispatch.ChannelHTTP)
	unknown := &dispatch.Error{Kind: dispatch.Unknown}
	if o := dispatch.Decide(p, 1, 12, dispatch.Receipt{}, unknown); !p.Announce || o.State != dispatch.Held {
		t.Errorf("policy %+v makes %s of an unknown outcome", p, o.State)
	}
}
