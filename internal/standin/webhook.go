package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Limits of the webhook stand-in.
const (
	maxWebhookBody   = 16 << 20
	webhookTolerance = 5 * time.Minute
)

// HTTPReply is what a scripted Webhook or API does with one request that it would
// take. The zero value takes it and answers as it would without a script.
type HTTPReply struct {
	Status int // 0 means what it would answer
	Header http.Header
	Body   string

	Hang      bool // take it, then say nothing until the client goes away
	CutBefore bool // close the connection; nothing is taken
	CutAfter  bool // take it, then close the connection without an answer
	Taken     bool // take it although Status is none of the 2xx
}

// takes reports whether the receiver has the webhook, whatever the client
// gets to know of it.
func (r HTTPReply) takes() bool {
	switch {
	case r.CutBefore:
		return false
	case r.Hang, r.CutAfter, r.Taken:
		return true
	}
	return r.Status >= 200 && r.Status <= 299
}

// Webhook receives webhooks on a loopback address. It takes every POST that
// is signed with its secret and not older than five minutes, answers 401 to
// any other, and keeps what it took.
type Webhook struct {
	key      []byte
	server   *http.Server
	listener net.Listener
	served   chan struct{}

	mu       sync.Mutex
	script   func(n int, r *http.Request) HTTPReply
	callback func(Received)
	received []Received
	requests int
	refused  int
}

// NewWebhook starts a receiver that verifies with secret: "whsec_" and the
// base64 of the key. Close it after use.
func NewWebhook(secret string) (*Webhook, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return nil, errors.New("standin: the webhook secret is not base64")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Webhook{key: key, listener: l, served: make(chan struct{})}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(w.served)
		_ = w.server.Serve(l)
	}()
	return w, nil
}

// URL is the address to send to; any path may follow it.
func (w *Webhook) URL() string { return "http://" + w.listener.Addr().String() }

// Received returns what it took, oldest first.
func (w *Webhook) Received() []Received {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.received)
}

// Requests returns how many requests came, and how many of them were not
// signed as they should be.
func (w *Webhook) Requests() (all, refused int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests, w.refused
}

// Script replaces what it does with well-signed requests, from the next one
// on; n counts all requests, from 1. nil takes everything again. The body of r
// may be read.
func (w *Webhook) Script(f func(n int, r *http.Request) HTTPReply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = f
}

// OnReceive has f called with each webhook that it takes, before it answers.
func (w *Webhook) OnReceive(f func(Received)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.callback = f
}

// Close ends all connections and waits for the listener to stop.
func (w *Webhook) Close() error {
	err := w.server.Close()
	<-w.served
	return err
}

// ServeHTTP implements http.Handler.
func (w *Webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.requests++
	n, script, callback := w.requests, w.script, w.callback
	w.mu.Unlock()

	if r.Method != http.MethodPost {
		rw.Header().Set("Allow", http.MethodPost)
		http.Error(rw, "send a POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxWebhookBody))
	if err != nil {
		http.Error(rw, "too large or broken off", http.StatusRequestEntityTooLarge)
		return
	}
	if !w.verify(r.Header, body, time.Now()) {
		w.mu.Lock()
		w.refused++
		w.mu.Unlock()
		http.Error(rw, "the signature or its time is wrong", http.StatusUnauthorized)
		return
	}
	reply := HTTPReply{}
	if script != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		reply = script(n, r)
	}
	if reply.Status == 0 {
		reply.Status = http.StatusNoContent
	}
	if reply.takes() {
		m := Received{
			Channel:   dispatch.ChannelWebhook,
			ID:        r.Header.Get("Webhook-Id"),
			Recipient: r.URL.RequestURI(),
			Body:      string(body),
			Headers:   shownHeaders(r.Header),
			At:        time.Now(),
		}
		w.mu.Lock()
		w.received = append(w.received, m)
		w.mu.Unlock()
		if callback != nil {
			callback(m)
		}
	}
	reply.answer(rw, r)
}

// answer does what reply says of the client's side.
func (reply HTTPReply) answer(rw http.ResponseWriter, r *http.Request) {
	switch {
	case reply.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case reply.CutBefore, reply.CutAfter:
		panic(http.ErrAbortHandler)
	}
	maps.Copy(rw.Header(), reply.Header)
	rw.WriteHeader(reply.Status)
	_, _ = io.WriteString(rw, reply.Body)
}

// verify checks a signature as the Standard Webhooks specification has it.
func (w *Webhook) verify(h http.Header, body []byte, now time.Time) bool {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" || now.Sub(time.Unix(sec, 0)).Abs() > webhookTolerance {
		return false
	}
	mac := hmac.New(sha256.New, w.key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	for s := range strings.SplitSeq(h.Get("Webhook-Signature"), " ") {
		encoded, ok := strings.CutPrefix(s, "v1,")
		if !ok {
			continue
		}
		if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

// shownHeaders returns the headers that belong to the webhook.
func shownHeaders(h http.Header) map[string]string {
	shown := map[string]string{}
	for name, values := range h {
		switch name {
		case "Accept-Encoding", "Connection", "Content-Length":
		default:
			shown[name] = strings.Join(values, ", ")
		}
	}
	return shown
}
