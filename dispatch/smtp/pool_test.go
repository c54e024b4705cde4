package smtp_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// eventually waits for something that another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func count(events []string, verb string) (n int) {
	for _, e := range events {
		if e == verb || strings.HasPrefix(e, verb+" ") {
			n++
		}
	}
	return n
}

func TestConnectionIsReused(t *testing.T) {
	server := scripted(t, nil)
	s := sender(t, server.Host(), server.Port(), nil)
	for range 3 {
		if _, e := send(t, s, mailTo(to)); e != nil {
			t.Fatal(e)
		}
	}
	// A refusal costs a RSET, not the connection.
	server.Follow(on("RCPT", "550 no"))
	if _, e := send(t, s, mailTo(to)); e == nil || e.Kind != dispatch.Rejected {
		t.Fatalf("Send = %v, want rejected", e)
	}
	server.Follow(nil)
	if _, e := send(t, s, mailTo(to)); e != nil {
		t.Fatal(e)
	}
	events := server.Events()
	if count(events, "connect") != 1 || count(events, "MAIL") != 5 || count(events, "RSET") != 1 || count(events, "NOOP") != 0 {
		t.Errorf("events: %v", events)
	}
}

// What a server does to a kept connection must not cost an attempt, as long
// as it has seen nothing of the message.
func TestKeptConnectionHasDied(t *testing.T) {
	for _, reply := range []string{"421 4.4.2 idle for too long", standin.SMTPDrop} {
		t.Run(reply, func(t *testing.T) {
			server := scripted(t, nil)
			s := sender(t, server.Host(), server.Port(), nil)
			if _, e := send(t, s, mailTo(to)); e != nil {
				t.Fatal(e)
			}
			var once sync.Once
			server.Follow(func(event string) (answer string) {
				if strings.HasPrefix(event, "MAIL") {
					once.Do(func() { answer = reply })
				}
				return answer
			})
			if _, e := send(t, s, mailTo(to)); e != nil {
				t.Fatal(e)
			}
			if got := len(server.Received()); got != 2 {
				t.Errorf("the server took %d messages, want 2", got)
			}
			// A second time in a row is the server's own trouble.
			server.Follow(on("MAIL", reply))
			if _, e := send(t, s, mailTo(to)); e == nil || e.Kind != dispatch.Down {
				t.Errorf("Send = %v, want down", e)
			}
			// So it is on a new connection, which is not tried twice.
			before := count(server.Events(), "connect")
			if _, e := send(t, sender(t, server.Host(), server.Port(), nil), mailTo(to)); e == nil || e.Kind != dispatch.Down {
				t.Errorf("Send = %v, want down", e)
			}
			if n := count(server.Events(), "connect") - before; n != 1 {
				t.Errorf("%d connections for one attempt", n)
			}
		})
	}
}

// A kept connection that dies at the final dot is not tried again: the
// message may have arrived.
func TestKeptConnectionDiesAtTheDot(t *testing.T) {
	server := scripted(t, nil)
	s := sender(t, server.Host(), server.Port(), nil)
	if _, e := send(t, s, mailTo(to)); e != nil {
		t.Fatal(e)
	}
	server.Follow(on(".", standin.SMTPDrop))
	if _, e := send(t, s, mailTo(to)); e == nil || e.Kind != dispatch.Unknown {
		t.Errorf("Send = %v, want unknown", e)
	}
	if n := server.Ended(); n != 2 {
		t.Errorf("%d messages were sent, want 2", n)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	server := scripted(t, nil)
	s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) { c.IdleTimeout = time.Millisecond })
	if _, e := send(t, s, mailTo(to)); e != nil {
		t.Fatal(e)
	}
	eventually(t, "QUIT", func() bool { return count(server.Events(), "QUIT") == 1 && server.Open() == 0 })
	if _, e := send(t, s, mailTo(to)); e != nil {
		t.Fatal(e)
	}
}

// A farewell that is refused, or answered by nothing, holds up nobody.
func TestClose(t *testing.T) {
	for _, reply := range []string{"", "500 no", standin.SMTPDrop, standin.SMTPHang} {
		t.Run("QUIT "+reply, func(t *testing.T) {
			server := scripted(t, on("QUIT", reply))
			s := sender(t, server.Host(), server.Port(), nil)
			if _, e := send(t, s, mailTo(to)); e != nil {
				t.Fatal(e)
			}
			start := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("Close took %s", took)
			}
			if _, e := send(t, s, mailTo(to)); e == nil || e.Kind != dispatch.Down {
				t.Errorf("Send after Close = %v, want down", e)
			}
		})
	}
}

func TestConnectionsAreCapped(t *testing.T) {
	const most, messages = 3, 60
	var busy, peak atomic.Int32
	server := scripted(t, func(event string) string {
		switch {
		case strings.HasPrefix(event, "MAIL"):
			n := busy.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
		case event == ".":
			busy.Add(-1)
		}
		return ""
	})
	s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) { c.MaxConns = most })
	var wg sync.WaitGroup
	for i := range messages {
		wg.Go(func() {
			if _, e := send(t, s, mailTo(fmt.Sprintf("r%d@x.example", i))); e != nil {
				t.Error(e)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, r := range server.Received() {
		seen[r.Recipient] = true
	}
	if len(seen) != messages || len(server.Received()) != messages {
		t.Errorf("the server took %d messages for %d recipients, want %d", len(server.Received()), len(seen), messages)
	}
	if peak.Load() > most || count(server.Events(), "connect") > most {
		t.Errorf("%d transactions at a time on %d connections, want %d at most", peak.Load(), count(server.Events(), "connect"), most)
	}
}

func TestWaitingForAConnection(t *testing.T) {
	reached := make(chan struct{}, 1)
	server := scripted(t, func(event string) string {
		if event == "." {
			reached <- struct{}{}
			return standin.SMTPHang
		}
		return ""
	})
	s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) { c.MaxConns = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Send(ctx, mailTo(to)); dispatch.AsError("", err).Kind != dispatch.Unknown {
			t.Errorf("Send = %v, want unknown", err)
		}
	})
	<-reached
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := s.Send(short, mailTo(to)); err == nil || dispatch.AsError("", err).Kind != dispatch.Down {
		t.Errorf("Send = %v, want down", err)
	}
	cancel()
	wg.Wait()
}

// A message on its way when the sender is closed still arrives, and its
// connection is closed behind it.
func TestCloseWhileSending(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	server := scripted(t, func(event string) string {
		if event == "." {
			close(reached)
			<-release
		}
		return ""
	})
	s := sender(t, server.Host(), server.Port(), nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, e := send(t, s, mailTo(to)); e != nil {
			t.Error(e)
		}
	})
	<-reached
	s.Close()
	close(release)
	wg.Wait()
	eventually(t, "the connection to be closed", func() bool { return server.Open() == 0 })
	if len(server.Received()) != 1 {
		t.Errorf("received %d messages", len(server.Received()))
	}
}
