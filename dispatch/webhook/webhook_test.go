package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
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

// setup returns a receiver and a sender that may call it.
func setup(t *testing.T) (*standin.Webhook, *Sender) {
	t.Helper()
	receiver, err := standin.NewWebhook(secret('a', 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Close() })
	s, err := New(Config{Secrets: []dispatch.Secret{dispatch.Secret(secret('a', 32))}, Reach: loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.CloseIdleConnections)
	return receiver, s
}

func delivery(url string) *dispatch.Delivery {
	return sendertest.NewDelivery(dispatch.ChannelWebhook, url, dispatch.Webhook{
		URL: url, Body: `{"n": 9007199254740993}`,
		Headers: map[string]string{"Authorization": "Bearer token-canary", "X-Kind": "test"},
	})
}

// once is a delivery of which nobody wants a second.
func once(url string) *dispatch.Delivery {
	d := delivery(url)
	d.Once = true
	return d
}

func TestSuite(t *testing.T) {
	receiver, _ := setup(t)
	url := receiver.URL() + "/hooks/path-canary?token=query-canary"
	answer := func(r standin.HTTPReply) func() {
		return func() {
			receiver.Script(func(int, *http.Request) standin.HTTPReply { return r })
		}
	}
	status := func(code int, header ...string) func() {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return answer(standin.HTTPReply{Status: code, Header: h, Body: "Bearer token-canary path-canary"})
	}
	flood := strings.Repeat("x", 64<<20)
	sendertest.Run(t, sendertest.Suite{
		Channel: dispatch.ChannelWebhook,
		New: func(t *testing.T) dispatch.Sender {
			s, err := New(Config{Secrets: []dispatch.Secret{dispatch.Secret(secret('a', 32))}, Reach: loopback})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.client.CloseIdleConnections)
			return s
		},
		Delivery: func() *dispatch.Delivery { return delivery(url) },
		Accept:   func() { receiver.Script(nil) },
		Taken:    func() int { return len(receiver.Received()) },
		Hang:     answer(standin.HTTPReply{Hang: true}),
		Flood:    answer(standin.HTTPReply{Status: 200, Body: flood}),
		Secrets:  []string{secret('a', 32), strings.Repeat("a", 32), "token-canary", "path-canary", "query-canary"},
		Cases: []sendertest.Case{
			{Name: "200", Prepare: status(200), Status: 200},
			{Name: "202", Prepare: status(202), Status: 202},
			{Name: "204", Prepare: status(204), Status: 204},
			{Name: "301", Prepare: status(301, "Location", "https://example.com/"), Kind: dispatch.Rejected, Status: 301},
			{Name: "307", Prepare: status(307, "Location", receiver.URL()), Kind: dispatch.Rejected, Status: 307},
			{Name: "400", Prepare: status(400), Kind: dispatch.Rejected, Status: 400},
			{Name: "401", Prepare: status(401), Kind: dispatch.Rejected, Status: 401},
			{Name: "404", Prepare: status(404), Kind: dispatch.Rejected, Status: 404},
			{Name: "408", Prepare: status(408), Kind: dispatch.Down, Status: 408},
			{Name: "410 with a wish", Prepare: status(410, "Retry-After", "30"), Kind: dispatch.Rejected, Status: 410},
			{Name: "425", Prepare: status(425), Kind: dispatch.Down, Status: 425},
			{Name: "429", Prepare: status(429), Kind: dispatch.Throttled, Status: 429},
			{Name: "429 in seconds", Prepare: status(429, "Retry-After", "30"), Kind: dispatch.Throttled, Status: 429, RetryAfter: 30 * time.Second},
			{
				Name: "429 until a date", Kind: dispatch.Throttled, Status: 429, RetryAfter: time.Hour,
				Prepare: status(429, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)),
			},
			{Name: "429 in the past", Prepare: status(429, "Retry-After", "-5"), Kind: dispatch.Throttled, Status: 429},
			{Name: "429 for 30 years", Prepare: status(429, "Retry-After", "1000000000"), Kind: dispatch.Throttled, Status: 429, RetryAfter: dispatch.MaxRetryAfter},
			{Name: "500", Prepare: status(500), Kind: dispatch.Down, Status: 500},
			{Name: "500 although it was taken", Prepare: answer(standin.HTTPReply{Status: 500, Taken: true}), Kind: dispatch.Down, Status: 500},
			{Name: "502", Prepare: status(502), Kind: dispatch.Down, Status: 502},
			{Name: "503 with a wish", Prepare: status(503, "Retry-After", "7"), Kind: dispatch.Down, Status: 503, RetryAfter: 7 * time.Second},
			{Name: "503 with garbage", Prepare: status(503, "Retry-After", "soon"), Kind: dispatch.Down, Status: 503},
			{Name: "500 to what must not be sent twice", Delivery: once(url), Prepare: answer(standin.HTTPReply{Status: 500, Taken: true}), Kind: dispatch.Unknown, Status: 500},
			{Name: "502 to what must not be sent twice", Delivery: once(url), Prepare: status(502), Kind: dispatch.Unknown, Status: 502},
			{Name: "503 to what must not be sent twice", Delivery: once(url), Prepare: status(503), Kind: dispatch.Unknown, Status: 503},
			{Name: "503 with a wish, to what must not be sent twice", Delivery: once(url), Prepare: status(503, "Retry-After", "7"), Kind: dispatch.Down, Status: 503, RetryAfter: 7 * time.Second},
			{Name: "429 to what must not be sent twice", Delivery: once(url), Prepare: status(429), Kind: dispatch.Throttled, Status: 429},
			{Name: "504", Prepare: status(504), Kind: dispatch.Unknown, Status: 504},
			{Name: "599", Prepare: status(599), Kind: dispatch.Unknown, Status: 599},
			{Name: "cut before it was taken", Prepare: answer(standin.HTTPReply{CutBefore: true}), Kind: dispatch.Unknown},
			{Name: "cut after it was taken", Prepare: answer(standin.HTTPReply{CutAfter: true}), Kind: dispatch.Unknown},
			{
				Name: "nobody there", Prepare: func() {}, Kind: dispatch.Down,
				Delivery: delivery("http://127.0.0.1:1/path-canary"),
			},
			{
				Name: "not allowed there", Prepare: func() {}, Kind: dispatch.Rejected,
				Delivery: delivery("http://10.1.2.3/path-canary"),
			},
		},
	})
}

// All that a retry may change is the time and the signature.
func TestSendLooksTheSameOnEachAttempt(t *testing.T) {
	receiver, s := setup(t)
	clock := time.Now()
	s.now = func() time.Time { return clock }
	d := delivery(receiver.URL() + "/a?b=c")
	for n := range 2 {
		d.Attempt = n + 1
		if _, err := s.Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(time.Minute)
	}
	got := receiver.Received()
	if len(got) != 2 {
		t.Fatalf("received %d, want 2", len(got))
	}
	for i := range got {
		for _, name := range []string{"Webhook-Timestamp", "Webhook-Signature"} {
			if got[i].Headers[name] == "" {
				t.Errorf("attempt %d has no %s", i+1, name)
			}
			delete(got[i].Headers, name)
		}
	}
	a, b := got[0], got[1]
	if a.ID != d.ID.String() || a.ID != b.ID || a.Body != b.Body || a.Recipient != b.Recipient || !maps.Equal(a.Headers, b.Headers) {
		t.Errorf("attempts differ:\n%+v\n%+v", a, b)
	}
	if a.Body != `{"n": 9007199254740993}` || a.Recipient != "/a?b=c" {
		t.Errorf("received %+v", a)
	}
	want := map[string]string{
		"Authorization": "Bearer token-canary", "X-Kind": "test", "Content-Type": "application/json",
		"User-Agent": "outbox-listener", "Webhook-Id": d.ID.String(),
	}
	if !maps.Equal(a.Headers, want) {
		t.Errorf("headers = %v\nwant %v", a.Headers, want)
	}
}

func TestSendContentType(t *testing.T) {
	receiver, s := setup(t)
	for _, tt := range []struct {
		body    string
		headers map[string]string
		want    string
	}{
		{`{"a":1}`, nil, "application/json"},
		{`7`, nil, "application/json"},
		{`hello`, nil, "text/plain; charset=utf-8"},
		{`a,b`, map[string]string{"content-type": "text/csv"}, "text/csv"},
	} {
		w := dispatch.Webhook{URL: receiver.URL(), Body: tt.body, Headers: tt.headers}
		if _, err := s.Send(t.Context(), sendertest.NewDelivery(dispatch.ChannelWebhook, w.URL, w)); err != nil {
			t.Fatal(err)
		}
		got := receiver.Received()
		if last := got[len(got)-1]; last.Headers["Content-Type"] != tt.want || last.Body != tt.body {
			t.Errorf("%q came as %q, %q; want %q", tt.body, last.Body, last.Headers["Content-Type"], tt.want)
		}
	}
}

func TestSendFollowsNoRedirect(t *testing.T) {
	receiver, s := setup(t)
	var came atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
	defer inside.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		receiver.Script(func(int, *http.Request) standin.HTTPReply {
			return standin.HTTPReply{Status: status, Header: http.Header{"Location": {inside.URL}}}
		})
		_, err := s.Send(t.Context(), delivery(receiver.URL()))
		if e, _ := errors.AsType[*dispatch.Error](err); e == nil || e.Kind != dispatch.Rejected || e.Status != status {
			t.Errorf("%d: %v, want rejected", status, err)
		}
	}
	if came.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// A receiver that has only the old or only the new secret takes what is
// signed with both.
func TestSendWhileSecretsRotate(t *testing.T) {
	for _, key := range []byte{'a', 'b'} {
		receiver, err := standin.NewWebhook(secret(key, 32))
		if err != nil {
			t.Fatal(err)
		}
		defer receiver.Close()
		s, err := New(Config{
			Secrets: []dispatch.Secret{dispatch.Secret(secret('a', 32) + " " + secret('b', 32))},
			Reach:   loopback,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Send(t.Context(), delivery(receiver.URL())); err != nil {
			t.Errorf("receiver with key %c: %v", key, err)
		}
		s.client.CloseIdleConnections()
	}
}

func TestSendWithTheWrongSecret(t *testing.T) {
	receiver, _ := setup(t)
	s, err := New(Config{Secrets: []dispatch.Secret{dispatch.Secret(secret('b', 32))}, Reach: loopback})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Send(t.Context(), delivery(receiver.URL()))
	if e, _ := errors.AsType[*dispatch.Error](err); e == nil || e.Status != http.StatusUnauthorized {
		t.Errorf("got %v, want a 401", err)
	}
	if _, refused := receiver.Requests(); refused != 1 || len(receiver.Received()) != 0 {
		t.Errorf("refused %d, received %d", refused, len(receiver.Received()))
	}
}

func TestSendReadsNoMoreThanItMust(t *testing.T) {
	receiver, s := setup(t)
	receiver.Script(func(int, *http.Request) standin.HTTPReply {
		// Were it decompressed, this would be an error.
		return standin.HTTPReply{Status: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, Body: "no gzip at all"}
	})
	if _, err := s.Send(t.Context(), delivery(receiver.URL())); err != nil {
		t.Errorf("a reply that says it is compressed: %v", err)
	}

	drip := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}))
	defer drip.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	r, err := s.Send(ctx, delivery(drip.URL))
	if err != nil || r.Status != 200 {
		t.Errorf("a body that drips after a 200: %+v, %v; want it taken", r, err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("returned after %s", took)
	}
}

func TestSendValidatesAgain(t *testing.T) {
	receiver, s := setup(t)
	for name, w := range map[string]dispatch.Webhook{
		"an id of its own":      {URL: receiver.URL(), Body: "{}", Headers: map[string]string{"webhook-id": "x"}},
		"an idempotency header": {URL: receiver.URL(), Body: "{}", Headers: map[string]string{"Idempotency-Key": "x"}},
		"credentials":           {URL: "https://u:p@example.com", Body: "{}"},
	} {
		_, err := s.Send(t.Context(), sendertest.NewDelivery(dispatch.ChannelWebhook, w.URL, w))
		if e, _ := errors.AsType[*dispatch.Error](err); e == nil || e.Kind != dispatch.Rejected {
			t.Errorf("%s: %v, want rejected", name, err)
		}
	}
	if all, _ := receiver.Requests(); all != 0 {
		t.Errorf("%d requests came", all)
	}
}

func TestSendExplainsPlainHTTP(t *testing.T) {
	_, s := setup(t)
	_, err := s.Send(t.Context(), delivery("http://8.8.8.8/"))
	if err == nil || !strings.Contains(err.Error(), "plain http is not allowed to this address") {
		t.Errorf("got %v", err)
	}
}

// The whole way from an event to the receiver.
func TestThroughDispatcher(t *testing.T) {
	receiver, s := setup(t)
	d := dispatch.New()
	d.Register(dispatch.ChannelWebhook, s, Policy)
	payload, _ := json.Marshal(map[string]any{"url": receiver.URL() + "/x", "body": json.RawMessage(`[1, 2]`)})
	ev := dispatch.Event{Type: "webhook.send", Payload: payload}
	msgs, _ := d.Plan(t.Context(), ev)
	if msgs[0].Refused != "" || msgs[0].Skip != "" {
		t.Fatalf("planned %+v", msgs[0])
	}
	del := delivery("")
	del.Message = msgs[0]
	if _, e := d.Send(t.Context(), del); e != nil {
		t.Fatal(e)
	}
	if got := receiver.Received(); len(got) != 1 || got[0].Body != "[1,2]" || got[0].ID != del.ID.String() {
		t.Errorf("received %+v", got)
	}
}
