package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSink(t *testing.T) {
	t.Parallel()
	to, err := startSink(&sink{at: arrivals(3), C: make(chan int, 3)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}} // keep-alive has to work
	defer client.CloseIdleConnections()
	before := time.Now()
	for _, body := range []string{
		`{"n": 2, "text": "spaces, as jsonb writes them"}`,
		`{"pad":"x","n":0}`,
		`{"n":2}`,                    // again
		`{"n":3}`,                    // one too many
		`{"text":"no n"}`,            // none
		`{"n":-1}`,                   // none
		`{"n":"1"}`,                  // none
		strings.Repeat("x", 100<<10), // larger than any buffer
	} {
		resp, err := client.Post(to.url(), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatalf("%.40s: %v", body, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("%.40s: %s", body, resp.Status)
		}
	}
	if a, b := <-to.C, <-to.C; a != 2 || b != 0 {
		t.Errorf("came as %d, %d", a, b)
	}
	if d, again, other := to.distinct.Load(), to.again.Load(), to.other.Load(); d != 2 || again != 1 || other != 5 {
		t.Errorf("%d arrived, %d again, %d of another kind", d, again, other)
	}
	if at := to.arrived(2); at.Before(before) || at.After(time.Now()) {
		t.Errorf("2 arrived at %v", at)
	}
	if at := to.arrived(1); !at.IsZero() {
		t.Errorf("1 arrived at %v", at)
	}
	if err := to.complete(2); err == nil {
		t.Error("complete although one arrived again")
	}
}

func TestSinkThatWaits(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	to, err := startSink(&sink{delay: delay, at: arrivals(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	begun := time.Now()
	if err := post(http.DefaultClient, to.url(), []byte(`{"n": 0}`)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < delay {
		t.Errorf("answered after %s", took)
	}
	if late := to.arrived(0).Sub(begun); late >= delay {
		t.Errorf("the arrival was noted after %s", late)
	}
	if err := to.complete(1); err != nil {
		t.Error(err)
	}
}

func TestSinkThatHangs(t *testing.T) {
	t.Parallel()
	to, err := startSink(&sink{hang: true, at: arrivals(1), C: make(chan int, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url(), strings.NewReader(`{"n":0}`))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		ended <- err
	}()
	<-to.C // it is there, and has no answer
	select {
	case err := <-ended:
		t.Fatalf("answered: %v", err)
	default:
	}
	to.close() // ends it all the same
	if err := <-ended; err == nil {
		t.Error("answered at the end")
	}
}

// TestSinkRefuses: what it cannot read must not pass for something else.
func TestSinkRefuses(t *testing.T) {
	t.Parallel()
	to, err := newSink(1)
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	for _, head := range []string{
		"Transfer-Encoding: chunked\r\n\r\n7\r\n{\"n\":0}\r\n0\r\n\r\n",
		"Content-Length: many\r\n\r\n",
		"Content-Length: 99999999999\r\n\r\n",
	} {
		c, err := net.Dial("tcp", to.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+head); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		var timeout net.Error
		if b, err := io.ReadAll(c); len(b) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%q: %q, %v", head, b, err)
		}
		c.Close()
	}
	if to.distinct.Load() != 0 {
		t.Error("something arrived")
	}
}
