package smtp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	wire "github.com/wneessen/go-mail/smtp"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// deadlines is a net.Conn that remembers its deadline.
type deadlines struct {
	net.Conn
	set time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error      { d.set = t; return nil }
func (d *deadlines) SetReadDeadline(t time.Time) error  { d.set = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.set = t; return nil }

// The mail library sets deadlines whenever it likes. None may outlive the
// context, before its end or after.
func TestGuardCapsDeadlines(t *testing.T) {
	limit := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), limit)
	defer cancel()
	under := &deadlines{}
	g := &guard{Conn: under}
	release := g.bind(ctx)
	if !under.set.Equal(limit) {
		t.Errorf("bind set %s, want %s", under.set, limit)
	}
	setters := map[string]func(time.Time) error{
		"SetDeadline": g.SetDeadline, "SetReadDeadline": g.SetReadDeadline, "SetWriteDeadline": g.SetWriteDeadline,
	}
	for name, set := range setters {
		for _, tt := range []struct{ wish, want time.Time }{
			{limit.Add(-time.Minute), limit.Add(-time.Minute)},
			{limit.Add(time.Minute), limit},
			{time.Time{}, limit},
		} {
			if _ = set(tt.wish); !under.set.Equal(tt.want) {
				t.Errorf("%s(%s) set %s, want %s", name, tt.wish, under.set, tt.want)
			}
		}
	}
	cancel()
	for done := false; !done; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		done = g.cut
		g.mu.Unlock()
	}
	for name, set := range setters {
		if _ = set(limit.Add(-time.Minute)); under.set.After(time.Now()) {
			t.Errorf("%s brought the connection back to life", name)
		}
	}
	if release() {
		t.Error("release says that the context had not ended")
	}
}

// canned is a connection to a server that has said everything in advance. It
// breaks when the final dot is written.
type canned struct {
	deadlines
	replies *strings.Reader
	written bytes.Buffer
}

func (c *canned) Read(p []byte) (int, error) { return c.replies.Read(p) }
func (c *canned) Close() error               { return nil }
func (c *canned) Write(p []byte) (int, error) {
	if bytes.HasSuffix(p, []byte("\r\n.\r\n")) {
		return 0, os.ErrDeadlineExceeded
	}
	return c.written.Write(p)
}

// A dot that did not leave is no reason to be in doubt.
func TestDotIsNotWritten(t *testing.T) {
	g := &guard{Conn: &canned{replies: strings.NewReader("220 hi\r\n250 hi\r\n250 ok\r\n250 ok\r\n354 go\r\n")}}
	g.bind(t.Context())
	client, err := wire.NewClient(g, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{guard: g, client: client}
	_, f := c.submit(&message{from: "<a@x.example>", rcpts: []string{"<b@x.example>"}, data: []byte("Subject: s\r\n\r\nx\r\n")}, func() bool { return true })
	if f == nil || f.kind() != dispatch.Down {
		t.Errorf("submit = %+v, want a failure that is down", f)
	}
}

// Elsewhere than on this machine, credentials need TLS or an explicit none.
func TestCredentialsStayHome(t *testing.T) {
	server, err := standin.NewSMTP(standin.SMTPOptions{User: "u", Pass: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, tt := range []struct {
		mode TLSMode
		sent bool
	}{{TLSOpportunistic, false}, {TLSNone, true}} {
		s, err := New(Config{Host: server.Host(), Port: server.Port(), User: "u", Pass: "p", From: "a@x.example", TLS: tt.mode})
		if err != nil {
			t.Fatal(err)
		}
		s.local = false
		before := len(server.Logins())
		_, err = s.Send(t.Context(), delivery(t, dispatch.Email{To: []string{"b@x.example"}, Subject: "s", Text: "t"}))
		if e, _ := errors.AsType[*dispatch.Error](err); tt.sent != (err == nil) || e != nil && e.Kind != dispatch.Down {
			t.Errorf("%s: Send = %v", tt.mode, err)
		}
		if sent := len(server.Logins()) > before; sent != tt.sent {
			t.Errorf("%s: credentials sent = %t", tt.mode, sent)
		}
		s.Close()
	}
}

func TestDefaultMode(t *testing.T) {
	for _, tt := range []struct {
		host string
		port int
		want TLSMode
		addr string
	}{
		{"mail.example", 0, TLSStartTLS, "mail.example:587"},
		{"mail.example", 25, TLSStartTLS, "mail.example:25"},
		{"mail.example", 465, TLSImplicit, "mail.example:465"},
		{"localhost", 1025, TLSNone, "localhost:1025"},
		{"LOCALHOST", 25, TLSNone, "LOCALHOST:25"},
		{"127.8.9.1", 25, TLSNone, "127.8.9.1:25"},
		{"::1", 25, TLSNone, "[::1]:25"},
		{"localhost", 465, TLSImplicit, "localhost:465"},
		{"localhost.example", 25, TLSStartTLS, "localhost.example:25"},
		{"10.0.0.1", 25, TLSStartTLS, "10.0.0.1:25"},
	} {
		s, err := New(Config{Host: tt.host, Port: tt.port, From: "a@x.example"})
		if err != nil {
			t.Fatal(err)
		}
		if s.mode != tt.want || s.addr != tt.addr {
			t.Errorf("%s port %d: %s at %s, want %s at %s", tt.host, tt.port, s.mode, s.addr, tt.want, tt.addr)
		}
	}
}
