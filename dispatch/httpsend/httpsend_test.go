package httpsend

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

const canary = "s3cr3t-canary"

func post(t *testing.T, ctx context.Context, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("user", canary)
	return req
}

func client(t *testing.T) *http.Client {
	tr := NewTransport(nil)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// raw is a server that hands each connection to serve.
func raw(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// take reads one whole request.
func take(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

func TestDoAnswers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusTemporaryRedirect)
		case "/lost":
			w.Header().Set("Location", "http://[nowhere")
			w.WriteHeader(http.StatusFound)
		case "/big":
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, strings.Repeat("x", 100<<10))
		default:
			w.Header().Set("X-Reply", "yes")
			io.WriteString(w, "fine")
		}
	}))
	defer srv.Close()
	c := client(t)

	res, e := Do(c, dispatch.ChannelWebhook, post(t, t.Context(), srv.URL+"/ok"), 0)
	if e != nil {
		t.Fatal(e)
	}
	if res.Status != 200 || string(res.Body) != "fine" || res.Header.Get("X-Reply") != "yes" || res.Partial {
		t.Errorf("reply = %+v", res)
	}
	if res, e = Do(c, dispatch.ChannelWebhook, post(t, t.Context(), srv.URL+"/moved"), 0); e != nil || res.Status != 307 {
		t.Errorf("a redirect gives %+v, %v; want its own status", res, e)
	}
	if res, e = Do(c, dispatch.ChannelWebhook, post(t, t.Context(), srv.URL+"/lost"), 0); e != nil || res.Status != 302 {
		t.Errorf("a redirect to what is no address gives %+v, %v; want its own status", res, e)
	}
	if res, e = Do(c, dispatch.ChannelWebhook, post(t, t.Context(), srv.URL+"/big"), 0); e != nil || res.Status != 502 ||
		len(res.Body) != DefaultMaxBody || !res.Partial {
		t.Errorf("a big reply gives %d bytes, %v", len(res.Body), e)
	}
	if res, e = Do(c, dispatch.ChannelWebhook, post(t, t.Context(), srv.URL+"/ok"), 4); e != nil || res.Partial {
		t.Errorf("a body of just the limit gives %+v, %v", res, e)
	}
}

func TestDoFailures(t *testing.T) {
	silent := func(c net.Conn, r *bufio.Reader) { // takes the request, then nothing
		take(r)
		io.Copy(io.Discard, r)
	}
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	defer tlsServer.Close()
	closed := httptest.NewServer(nil)
	closed.Close()

	for _, tt := range []struct {
		name string
		url  string
		ctx  context.Context
		dial func(context.Context, string, string) (net.Conn, error)
		want dispatch.Kind
		text string // a part of the error
	}{
		{name: "nobody listens", url: closed.URL, want: dispatch.Down},
		{name: "no such name", url: "http://nobody.invalid", want: dispatch.Down},
		{name: "certificate of nobody we know", url: tlsServer.URL, want: dispatch.Down},
		{
			name: "TLS with one that speaks none", want: dispatch.Down,
			url: strings.Replace(raw(t, func(c net.Conn, r *bufio.Reader) { io.WriteString(c, "220 hello\r\n") }), "http:", "https:", 1),
		},
		{
			name: "TLS with one that speaks HTTP", want: dispatch.Down, text: "HTTP response to HTTPS client",
			url: strings.Replace(raw(t, func(c net.Conn, r *bufio.Reader) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), "http:", "https:", 1),
		},
		{
			name: "TLS handshake that stalls", want: dispatch.Down,
			url: strings.Replace(raw(t, func(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }), "http:", "https:", 1),
		},
		{name: "canceled before it began", url: raw(t, silent), ctx: expired, want: dispatch.Down},
		{name: "no answer", url: raw(t, silent), want: dispatch.Unknown},
		{name: "hung up after the request", url: raw(t, func(_ net.Conn, r *bufio.Reader) { take(r) }), want: dispatch.Unknown},
		{
			name: "reset in the middle of the request", want: dispatch.Unknown,
			url: raw(t, func(c net.Conn, r *bufio.Reader) {
				r.ReadByte()
				c.(*net.TCPConn).SetLinger(0)
			}),
		},
		{
			name: "an answer that is not HTTP", want: dispatch.Unknown,
			url: raw(t, func(c net.Conn, r *bufio.Reader) {
				take(r)
				fmt.Fprintf(c, "%s \x1b[31m\r\n\r\n", canary)
			}),
		},
		{
			name: "headers without end", want: dispatch.Unknown,
			url: raw(t, func(c net.Conn, r *bufio.Reader) {
				take(r)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for n := 0; ; n++ {
					if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", n, strings.Repeat("y", 1000)); err != nil {
						return
					}
				}
			}),
		},
		{
			name: "interim answers without end", want: dispatch.Unknown,
			url: raw(t, func(c net.Conn, r *bufio.Reader) {
				take(r)
				for {
					if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
						return
					}
				}
			}),
		},
		{
			name: "an address that may not be called", url: "http://private.example/" + canary, want: dispatch.Rejected,
			dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%w: 10.1.2.3", ssrf.ErrProhibitedIP)}
			},
		},
		{
			name: "a port that may not be called", url: "http://public.example:25", want: dispatch.Rejected,
			dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ssrf.ErrProhibitedPort}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			tr := NewTransport(tt.dial)
			defer tr.CloseIdleConnections()
			res, e := Do(&http.Client{Transport: tr}, dispatch.ChannelWebhook, post(t, ctx, tt.url+"/path-"+canary+"?token="+canary), 0)
			if e == nil {
				t.Fatalf("got an answer: %+v", res)
			}
			if e.Kind != tt.want || e.Channel != dispatch.ChannelWebhook {
				t.Errorf("Do = %s on %q, want %s (%v)", e.Kind, e.Channel, tt.want, e)
			}
			if !strings.Contains(e.Error(), tt.text) {
				t.Errorf("error text %q, want %q in it", e, tt.text)
			}
			if text := e.Error(); strings.Contains(text, canary) || strings.Contains(text, "10.1.2.3") || strings.Contains(text, "\x1b") {
				t.Errorf("error text %q", text)
			}
		})
	}
}

// The transport would send a POST with an idempotency header whose body it can
// get again a second time.
func TestDoSendsOnceOnDeadKeepAlive(t *testing.T) {
	for _, end := range []string{"FIN", "RST"} {
		t.Run(end, func(t *testing.T) {
			var conns, accepted atomic.Int32
			url := raw(t, func(c net.Conn, r *bufio.Reader) {
				conns.Add(1)
				if take(r) != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				if take(r) != nil { // the same connection again
					return
				}
				accepted.Add(1)
				if end == "RST" {
					c.(*net.TCPConn).SetLinger(0)
				}
			})
			c := client(t)
			if _, e := Do(c, dispatch.ChannelSMS, post(t, t.Context(), url), 0); e != nil {
				t.Fatal(e)
			}
			req := post(t, t.Context(), url)
			req.Header.Set("Idempotency-Key", "k")
			req.Header.Set("X-Idempotency-Key", "k")
			_, e := Do(c, dispatch.ChannelSMS, req, 0)
			if e == nil || e.Kind != dispatch.Unknown {
				t.Errorf("Do = %v, want unknown", e)
			}
			if accepted.Load() != 1 || conns.Load() != 1 {
				t.Errorf("accepted %d times on %d connections, want once on one", accepted.Load(), conns.Load())
			}
			if req.Header.Get("Idempotency-Key") == "" || req.GetBody == nil {
				t.Error("the caller's request was changed")
			}
		})
	}
}

func TestDoKeepsTheAnswerOfABrokenBody(t *testing.T) {
	url := raw(t, func(c net.Conn, r *bufio.Reader) {
		take(r)
		io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf")
	})
	res, e := Do(client(t), dispatch.ChannelSMS, post(t, t.Context(), url), 0)
	if e != nil || res.Status != 201 || string(res.Body) != "half" || !res.Partial {
		t.Errorf("Do = %+v, %v", res, e)
	}
}

// TestDoHeedsTheTimeoutOfItsClient: for the answer and for its body.
func TestDoHeedsTheTimeoutOfItsClient(t *testing.T) {
	stalling := func(begins string) (*Response, *dispatch.Error) {
		url := raw(t, func(c net.Conn, r *bufio.Reader) {
			take(r)
			io.WriteString(c, begins)
			io.Copy(io.Discard, r)
		})
		c := client(t)
		c.Timeout = 300 * time.Millisecond
		return Do(c, dispatch.ChannelSMS, post(t, t.Context(), url), 0)
	}
	if res, e := stalling("HTTP/1.1 201 Cre"); e == nil || e.Kind != dispatch.Unknown || !strings.Contains(e.Error(), "no answer in time") {
		t.Errorf("an answer that stalls gives %+v, %v", res, e)
	}
	if res, e := stalling("HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nhalf"); e != nil || res.Status != 201 || string(res.Body) != "half" || !res.Partial {
		t.Errorf("a body that stalls gives %+v, %v", res, e)
	}
}

// Every answer that ends early must come back as an answer or as unknown,
// never as down: the request had arrived.
func TestDoAnswerCutAtEveryByte(t *testing.T) {
	const whole = "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nfine"
	var cut atomic.Int32
	url := raw(t, func(c net.Conn, r *bufio.Reader) {
		take(r)
		io.WriteString(c, whole[:cut.Load()])
	})
	head := strings.Index(whole, "\r\n\r\n") + 4
	for n := range len(whole) + 1 {
		cut.Store(int32(n))
		res, e := Do(client(t), dispatch.ChannelSMS, post(t, t.Context(), url), 0)
		switch {
		case n < head && (e == nil || e.Kind != dispatch.Unknown):
			t.Errorf("cut at %d of %d: %+v, %v; want unknown", n, len(whole), res, e)
		case n >= head && (e != nil || res.Status != 201 || res.Partial != (n < len(whole))):
			t.Errorf("cut at %d of %d: %+v, %v; want 201", n, len(whole), res, e)
		}
	}
}

func TestDoOverHTTP2(t *testing.T) {
	var accepted atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.ProtoMajor != 2 {
			t.Errorf("came over %s", r.Proto)
		}
		switch r.URL.Path {
		case "/reset":
			accepted.Add(1)
			panic(http.ErrAbortHandler)
		case "/hang":
			accepted.Add(1)
			<-r.Context().Done()
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	tr := NewTransport(nil)
	defer tr.CloseIdleConnections()
	tr.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	c := &http.Client{Transport: tr}

	for _, tt := range []struct {
		path string
		want dispatch.Kind
	}{{"/", ""}, {"/reset", dispatch.Unknown}, {"/hang", dispatch.Unknown}} {
		accepted.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, e := Do(c, dispatch.ChannelSMS, post(t, ctx, srv.URL+tt.path), 0)
		cancel()
		if tt.want == "" {
			if e != nil {
				t.Errorf("%s: %v", tt.path, e)
			}
			continue
		}
		if e == nil || e.Kind != tt.want || accepted.Load() != 1 {
			t.Errorf("%s: %v, accepted %d times; want %s and once", tt.path, e, accepted.Load(), tt.want)
		}
	}
}

// frame returns an HTTP/2 frame.
func frame(typ byte, stream uint32, payload ...byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	f = append(f, typ, 0)
	return append(binary.BigEndian.AppendUint32(f, stream), payload...)
}

// A server that speaks HTTP/2 badly costs one attempt, not the process.
func TestDoOverBrokenHTTP2(t *testing.T) {
	const rstStream, settings, ping, goAway, headers = 3, 4, 6, 7, 1
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	for _, tt := range []struct {
		name    string
		frames  []byte
		forever bool
	}{
		{"refused stream", frame(rstStream, 1, 0, 0, 0, 7), false},
		{"reset stream", frame(rstStream, 1, 0, 0, 0, 2), false},
		{"protocol error", frame(rstStream, 1, 0, 0, 0, 1), false},
		{"going away", frame(goAway, 0, 0, 0, 0, 0, 0, 0, 0, 0), false},
		{"headers that cannot be read", frame(headers, 1, 0xff, 0xff, 0xff), false},
		{"settings without end", frame(settings, 0), true},
		{"pings without end", frame(ping, 0, 1, 2, 3, 4, 5, 6, 7, 8), true},
		{"resets without end", frame(rstStream, 1, 0, 0, 0, 7), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
				Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var streams atomic.Int32
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						misbehave(c, frame(settings, 0), tt.frames, tt.forever, &streams)
					}()
				}
			}()
			tr := NewTransport(nil)
			defer tr.CloseIdleConnections()
			tr.TLSClientConfig.RootCAs = certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, e := Do(&http.Client{Transport: tr}, dispatch.ChannelSMS, post(t, ctx, "https://"+l.Addr().String()), 0)
			if e == nil || e.Kind != dispatch.Unknown {
				t.Errorf("Do = %v, want unknown", e)
			}
			if took := time.Since(start); took > 1500*time.Millisecond {
				t.Errorf("returned after %s", took)
			}
			if streams.Load() != 1 {
				t.Errorf("the request was sent %d times, want once", streams.Load())
			}
		})
	}
}

// misbehave greets an HTTP/2 client, waits for a request's headers, counts
// them, and answers with frames.
func misbehave(c net.Conn, greeting, frames []byte, forever bool, streams *atomic.Int32) {
	r := bufio.NewReader(c)
	if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		return
	}
	if _, err := c.Write(greeting); err != nil {
		return
	}
	begun := false
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		if _, err := r.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
			return
		}
		if head[3] != 1 { // not HEADERS
			continue
		}
		streams.Add(1)
		if begun {
			continue
		}
		begun = true
		go func() {
			for {
				if _, err := c.Write(frames); err != nil || !forever {
					return
				}
			}
		}()
	}
}

func TestDoErrorsStillAnswerIs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, e := Do(client(t), dispatch.ChannelSMS, post(t, ctx, "http://127.0.0.1:1"), 0)
	if !errors.Is(e, context.Canceled) {
		t.Errorf("errors.Is(%v, context.Canceled) = false", e)
	}
}

// Without a body there is nothing to get again, and still nothing is resent.
func TestDoSendsOnceWithoutBody(t *testing.T) {
	var accepted atomic.Int32
	url := raw(t, func(c net.Conn, r *bufio.Reader) {
		if take(r) != nil {
			return
		}
		accepted.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if take(r) == nil {
			accepted.Add(1)
		}
	})
	c := client(t)
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k")
		_, _ = Do(c, dispatch.ChannelSMS, req, 0)
	}
	if n := accepted.Load(); n != 2 {
		t.Errorf("accepted %d of 2 requests", n)
	}
}
