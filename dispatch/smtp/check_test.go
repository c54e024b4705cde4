package smtp_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server standin.SMTPOptions
		with   func(*smtp.Config)
		want   string // "": none
	}{
		{"without login", standin.SMTPOptions{}, func(c *smtp.Config) { c.User = "" }, ""},
		{"with login", standin.SMTPOptions{TLS: standin.SMTPStartTLS, User: user, Pass: secret}, mode(smtp.TLSStartTLS), ""},
		{"a wrong password", standin.SMTPOptions{User: user, Pass: "other"}, nil, "SMTP_USER or SMTP_PASS: AUTH was refused: 535 5.7.8"},
		{"it wants a login", standin.SMTPOptions{User: user, Pass: secret, MustLogin: true}, func(c *smtp.Config) { c.User = "" }, "SMTP_USER: 530"},
		{"AUTH after STARTTLS only", standin.SMTPOptions{TLS: standin.SMTPStartTLS, User: user, Pass: secret}, nil, "SMTP_USER or SMTP_TLS: the server offers AUTH after STARTTLS only"},
		{"no STARTTLS", standin.SMTPOptions{}, mode(smtp.TLSStartTLS), "SMTP_TLS or SMTP_HOST: "},
		{"no TLS", standin.SMTPOptions{}, mode(smtp.TLSImplicit), "SMTP_TLS or SMTP_HOST: "},
		{"a certificate of nobody we know", standin.SMTPOptions{TLS: standin.SMTPStartTLS}, func(c *smtp.Config) { c.TLS, c.RootCAs = smtp.TLSStartTLS, nil }, "SMTP_TLS or SMTP_HOST: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, err := standin.NewSMTP(tt.server)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) {
				c.User, c.Pass, c.RootCAs = user, secret, server.RootCAs()
				if tt.with != nil {
					tt.with(c)
				}
			})
			wantCheck(t, s, tt.want)
			if got := server.Received(); len(got) > 0 {
				t.Errorf("%d messages", len(got))
			}
		})
	}
}

func TestCheckOfOddServers(t *testing.T) {
	sees := scripted(t, on("MAIL", "553 5.7.1 not your address, "+user))
	wantCheck(t, sender(t, sees.Host(), sees.Port(), func(c *smtp.Config) { c.User, c.Pass = user, secret }), "SMTP_FROM: 553 ")
	if events := sees.Events(); !slices.Contains(events, "QUIT") {
		t.Errorf("it took no leave: %v", events)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	silent := sender(t, "127.0.0.1", at.Port, func(c *smtp.Config) { c.ConnectTimeout = 50 * time.Millisecond })
	wantCheck(t, silent, "SMTP_HOST or SMTP_PORT: ")
	l.Close()
	wantCheck(t, silent, "SMTP_HOST or SMTP_PORT: dial tcp ")
	wantCheck(t, sender(t, "nobody.invalid", 25, nil), "SMTP_HOST: ")
}

func wantCheck(t *testing.T, s *smtp.Sender, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got := ""
	if err := s.Check(ctx); err != nil {
		got = err.Error()
	}
	if !strings.HasPrefix(got, want) || (got == "") != (want == "") || strings.Contains(got, user) || strings.Contains(got, secret) {
		t.Errorf("%q; want %q", got, want)
	}
}
