package httpsend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestLate: of requests that are not ours any more when their connection is there,
// nothing reaches the server, and those beside them on it go on.
func TestLate(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var good, bad atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.Proto != protocol {
					t.Errorf("%s, want %s", r.Proto, protocol)
				}
				if r.URL.Path == "/late" {
					bad.Add(1)
				} else {
					good.Add(1)
				}
				time.Sleep(time.Millisecond) // so that several are under way at once
			}))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			transport := NewTransport(nil)
			pool := x509.NewCertPool()
			pool.AddCert(server.Certificate())
			transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			client := &http.Client{Transport: transport}
			defer client.CloseIdleConnections()

			const each = 200
			var wg sync.WaitGroup
			for worker := range 4 {
				wg.Go(func() {
					for n := range each {
						late := (n+worker)%2 == 0
						ctx, path := t.Context(), "/good"
						if late {
							ctx, path = dispatch.WithOurs(ctx, func() bool { return false }), "/late"
						}
						req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, strings.NewReader("{}"))
						if err != nil {
							t.Error(err)
							return
						}
						_, e := Do(client, dispatch.ChannelHTTP, req, 0)
						switch {
						case late && (e == nil || e.Kind != dispatch.Down || !errors.Is(e, dispatch.ErrLate)):
							t.Errorf("late: %v", e)
						case !late && e != nil:
							t.Errorf("beside it: %v", e)
						}
					}
				})
			}
			wg.Wait()
			if good.Load() != 4*each/2 || bad.Load() != 0 {
				t.Errorf("%d and %d of those that are late, want %d and none", good.Load(), bad.Load(), 4*each/2)
			}
		})
	}
}

// TestGiveUp: nothing can be written to the connection any more. net/http writes beside
// the goroutine that would see the context, so that the end of that is not enough.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ended := false
	giveUp(ours, func() { ended = true })
	if _, err := ours.Write([]byte("POST")); !errors.Is(err, io.ErrClosedPipe) || !ended {
		t.Errorf("written: %v; the request is over: %t", err, ended)
	}
}
