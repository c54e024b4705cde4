package admin

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

// running is a server of one test, with an outbox that does as it is told.
type running struct {
	t    *testing.T
	addr string
	log  *lines
	stop func() // waits until it has stopped

	limits chan int // of the dispatches
}

// lines is a log to look at.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func serve(t *testing.T, change func(*Config), tune ...func(*Server)) *running {
	t.Helper()
	r := &running{t: t, log: &lines{}, limits: make(chan int, 100)}
	cfg := Config{
		Key: key,
		Drain: func(_ context.Context, limit int) (listener.Stats, error) {
			r.limits <- limit
			return listener.Stats{Total: 6, Processed: 1, Skipped: 2, Errors: 3}, nil
		},
		Health:     func() listener.Health { return listener.Health{Listening: true, LastSweep: time.Now()} },
		Ping:       func(context.Context) error { return nil },
		SweepEvery: time.Second,
		Grace:      10 * time.Second,
		Log:        slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tune {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// answered is what a request was answered with.
type answered struct {
	status int
	body   string
	header http.Header
}

func (r *running) do(method, path, body string, header ...string) answered {
	r.t.Helper()
	a, err := r.try(method, path, body, header...)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// try takes headers as name, value, name, value.
func (r *running) try(method, path, body string, header ...string) (answered, error) {
	req, err := http.NewRequest(method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	if body == "" {
		req.Body = nil
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[http.CanonicalHeaderKey(header[i])] = append(req.Header[http.CanonicalHeaderKey(header[i])], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answered{res.StatusCode, string(text), res.Header}, err
}
