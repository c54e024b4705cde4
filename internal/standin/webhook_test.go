package standin

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))

// signedPost returns a webhook signed by the reference implementation.
func signedPost(t *testing.T, ctx context.Context, url, id, body, secret string, at time.Time) *http.Request {
	t.Helper()
	ref, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := ref.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", "v1a,x v1,AAAA "+signature)
	return req
}

// do sends req on a connection of its own; 0 means that no answer came.
func do(t *testing.T, req *http.Request) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func newWebhook(t *testing.T) *Webhook {
	t.Helper()
	w, err := NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWebhookVerifies(t *testing.T) {
	w := newWebhook(t)
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("o", 32)))
	now := time.Now()
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		secret string
		at     time.Time
		want   int
	}{
		{"right", func(*http.Request) {}, webhookSecret, now, 204},
		{"a little old", func(*http.Request) {}, webhookSecret, now.Add(-4 * time.Minute), 204},
		{"too old", func(*http.Request) {}, webhookSecret, now.Add(-6 * time.Minute), 401},
		{"too new", func(*http.Request) {}, webhookSecret, now.Add(6 * time.Minute), 401},
		{"another secret", func(*http.Request) {}, other, now, 401},
		{"another id", func(r *http.Request) { r.Header.Set("webhook-id", "x") }, webhookSecret, now, 401},
		{"no id", func(r *http.Request) { r.Header.Del("webhook-id") }, webhookSecret, now, 401},
		{"no time", func(r *http.Request) { r.Header.Del("webhook-timestamp") }, webhookSecret, now, 401},
		{"no signature", func(r *http.Request) { r.Header.Del("webhook-signature") }, webhookSecret, now, 401},
		{"a GET", func(r *http.Request) { r.Method = http.MethodGet }, webhookSecret, now, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(w.Received())
			req := signedPost(t, t.Context(), w.URL()+"/a?b=c", "id-1", `{"a":1}`, tt.secret, tt.at)
			tt.change(req)
			if got := do(t, req); got != tt.want {
				t.Errorf("status = %d, want %d", got, tt.want)
			}
			if taken := len(w.Received()) > before; taken != (tt.want == 204) {
				t.Errorf("taken = %t", taken)
			}
		})
	}
	m := w.Received()[0]
	if m.Channel != dispatch.ChannelWebhook || m.ID != "id-1" || m.Recipient != "/a?b=c" || m.Body != `{"a":1}` || m.At.IsZero() {
		t.Errorf("received %+v", m)
	}
	if all, refused := w.Requests(); all != 10 || refused != 7 {
		t.Errorf("%d requests, %d refused; want 10 and 7", all, refused)
	}
}

func TestWebhookScript(t *testing.T) {
	w := newWebhook(t)
	var mu sync.Mutex
	var called []string
	w.OnReceive(func(m Received) {
		mu.Lock()
		defer mu.Unlock()
		called = append(called, m.ID)
	})
	for _, tt := range []struct {
		name   string
		reply  HTTPReply
		status int // 0 means that no answer comes
		taken  bool
	}{
		{"nothing special", HTTPReply{}, 204, true},
		{"another success", HTTPReply{Status: 201, Body: "thanks"}, 201, true},
		{"a refusal", HTTPReply{Status: 410}, 410, false},
		{"a failure after it was taken", HTTPReply{Status: 500, Taken: true}, 500, true},
		{"cut before", HTTPReply{CutBefore: true}, 0, false},
		{"cut after", HTTPReply{CutAfter: true}, 0, true},
		{"silence", HTTPReply{Hang: true}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(w.Received())
			w.Script(func(n int, r *http.Request) HTTPReply {
				if body, _ := io.ReadAll(r.Body); string(body) != "{}" || n == 0 {
					t.Errorf("script got request %d with body %q", n, body)
				}
				return tt.reply
			})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if got := do(t, signedPost(t, ctx, w.URL(), tt.name, "{}", webhookSecret, time.Now())); got != tt.status {
				t.Errorf("status = %d, want %d", got, tt.status)
			}
			if taken := len(w.Received()) > before; taken != tt.taken {
				t.Errorf("taken = %t, want %t", taken, tt.taken)
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(called, ", "); got != "nothing special, another success, a failure after it was taken, cut after, silence" {
		t.Errorf("OnReceive was called for %s", got)
	}
}

func TestWebhookCloseEndsSilence(t *testing.T) {
	w, err := NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	w.OnReceive(func(Received) { close(taken) })
	w.Script(func(int, *http.Request) HTTPReply { return HTTPReply{Hang: true} })
	done := make(chan int)
	req := signedPost(t, t.Context(), w.URL(), "x", "{}", webhookSecret, time.Now())
	go func() { done <- do(t, req) }()
	<-taken
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if status := <-done; status != 0 {
		t.Errorf("status = %d, want none", status)
	}
}

func TestNewWebhookWithoutSecret(t *testing.T) {
	for _, secret := range []string{"", "whsec_", "whsec_%"} {
		if _, err := NewWebhook(secret); err == nil {
			t.Errorf("NewWebhook(%q) started a receiver", secret)
		}
	}
}
