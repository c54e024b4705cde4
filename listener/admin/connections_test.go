package admin

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

// TestSlowClients: hundreds that never finish their request keep nobody out.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	for i := range 200 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			fmt.Fprintf(c, "GET /api/healthz HTTP/1.1\r\nHost: h\r\nX-Slow: ") // and no more
		}
	}
	begun := time.Now()
	if got := r.do("GET", "/api/healthz", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %s", took)
	}
}

// TestBusyConnectionsStay: one that is being answered is not closed for a new
// one; the new one is.
func TestBusyConnectionsStay(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	r := serve(t, func(c *Config) {
		c.MaxConns = 2
		c.Drain = func(context.Context, int) (listener.Stats, error) {
			inside <- struct{}{}
			<-release
			return listener.Stats{}, nil
		}
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if got, err := r.try("POST", path, "", "x-api-key", key); err != nil || got.status != 200 {
				t.Errorf("%d %v", got.status, err)
			}
		})
		<-inside
	}
	if _, err := r.try("GET", "/api/healthz", ""); err == nil {
		t.Error("a third connection is served")
	}
	close(release)
	wg.Wait()
	if got := r.do("GET", "/api/healthz", ""); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestLargeHeader(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	// The server may hang up before the client has read its answer.
	if got, err := r.try("GET", "/api/healthz", "", "X-Large", strings.Repeat("x", 32<<10)); err == nil && got.status != 431 {
		t.Errorf("%d", got.status)
	}
}

// TestStop: requests under way are finished, and connections that wait for
// nothing do not delay the end.
func TestStop(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	r := serve(t, func(c *Config) {
		c.Drain = func(context.Context, int) (listener.Stats, error) {
			close(inside)
			<-release
			return listener.Stats{Total: 1, Processed: 1}, nil
		}
	})
	waiting, err := net.Dial("tcp", r.addr) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	got := make(chan string, 1)
	go func() {
		a, err := r.try("POST", path, "", "x-api-key", key)
		got <- fmt.Sprint(a.status, a.body, err)
	}()
	<-inside
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	if _, err := bufio.NewReader(waiting).ReadByte(); err == nil {
		t.Error("a byte from nowhere")
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still accepting")
	}
	select {
	case <-stopped:
		t.Error("stopped with a request under way")
	default:
	}
	close(release)
	if a := <-got; a != `200{"ok":true,"total":1,"processed":1,"skipped":0,"errors":0}<nil>` {
		t.Errorf("%s", a)
	}
	select {
	case <-stopped:
	case <-time.After(3 * time.Second):
		t.Error("not stopped")
	}
}

func TestStopCutsShort(t *testing.T) {
	t.Parallel()
	inside := make(chan struct{})
	r := serve(t, func(c *Config) {
		c.Grace = 50 * time.Millisecond
		c.Drain = func(ctx context.Context, _ int) (listener.Stats, error) {
			close(inside)
			<-ctx.Done()
			return listener.Stats{}, ctx.Err()
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.try("POST", path, "", "x-api-key", key) // its connection is closed
	}()
	<-inside
	r.stop()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the request goes on")
	}
}
