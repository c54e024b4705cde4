package smtp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// Whether mail and credentials leave, by what the server offers and what is
// configured. The server is on this machine throughout.
func TestTLSAndLogin(t *testing.T) {
	starttls := standin.SMTPOptions{TLS: standin.SMTPStartTLS, User: user, Pass: secret}
	for _, tt := range []struct {
		name   string
		server standin.SMTPOptions
		with   func(*smtp.Config)
		trust  bool
		logins []string // nil means that no mail is taken
		wrong  string   // what the error says
	}{
		{"a development server: no TLS, no AUTH, credentials configured", standin.SMTPOptions{}, nil, true, []string{}, ""},
		{"PLAIN in the clear to this machine", standin.SMTPOptions{User: user, Pass: secret}, nil, true, []string{"PLAIN"}, ""},
		{"LOGIN", standin.SMTPOptions{User: user, Pass: secret, Mechanisms: []string{"LOGIN"}}, nil, true, []string{"LOGIN"}, ""},
		{"wrong password", standin.SMTPOptions{User: user, Pass: "other"}, nil, true, nil, "AUTH was refused: 535 5.7.8"},
		{"AUTH only after STARTTLS, and the default does not encrypt here", starttls, nil, true, nil, "set the TLS mode to starttls"},
		{"STARTTLS", starttls, mode(smtp.TLSStartTLS), true, []string{"PLAIN"}, ""},
		{"STARTTLS by somebody unknown", starttls, mode(smtp.TLSStartTLS), false, nil, "certificate"},
		{"STARTTLS wanted, not offered", standin.SMTPOptions{User: user, Pass: secret}, mode(smtp.TLSStartTLS), true, nil, "STARTTLS"},
		{"opportunistic, offered", starttls, mode(smtp.TLSOpportunistic), true, []string{"PLAIN"}, ""},
		{"opportunistic, not offered", standin.SMTPOptions{User: user, Pass: secret}, mode(smtp.TLSOpportunistic), true, []string{"PLAIN"}, ""},
		{"none, by name", starttls, mode(smtp.TLSNone), true, []string{}, ""},
		{"implicit", standin.SMTPOptions{TLS: standin.SMTPImplicit, User: user, Pass: secret}, mode(smtp.TLSImplicit), true, []string{"PLAIN"}, ""},
		{"implicit by somebody unknown", standin.SMTPOptions{TLS: standin.SMTPImplicit}, mode(smtp.TLSImplicit), false, nil, "certificate"},
		{"implicit without AUTH", standin.SMTPOptions{TLS: standin.SMTPImplicit}, mode(smtp.TLSImplicit), true, nil, "offers no AUTH"},
		{"implicit wanted, spoken in the clear", standin.SMTPOptions{}, mode(smtp.TLSImplicit), true, nil, "tls"},
		{"a login that the server insists on and does not get", standin.SMTPOptions{User: user, Pass: secret, MustLogin: true}, func(c *smtp.Config) { c.User = "" }, true, nil, "530"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, err := standin.NewSMTP(tt.server)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) {
				c.User, c.Pass = user, secret
				if tt.trust {
					c.RootCAs = server.RootCAs()
				}
				if tt.with != nil {
					tt.with(c)
				}
			})
			d := mailTo(to)
			r, e := send(t, s, d)
			if tt.logins == nil {
				if e == nil || e.Kind != dispatch.Down || !strings.Contains(e.Error(), tt.wrong) {
					t.Errorf("Send = %v, want down and %q", e, tt.wrong)
				}
				if len(server.Received()) != 0 || len(server.Logins()) != 0 {
					t.Errorf("received %d, logins %v; want none", len(server.Received()), server.Logins())
				}
				return
			}
			if e != nil {
				t.Fatal(e)
			}
			if r.Status != 250 || r.ProviderID == "" {
				t.Errorf("receipt = %+v", r)
			}
			if got := server.Logins(); !slices.Equal(got, tt.logins) {
				t.Errorf("logins = %v, want %v", got, tt.logins)
			}
			got := server.Received()
			if len(got) != 1 || got[0].ID != d.ID.String()+"@myst.example" || got[0].Recipient != to {
				t.Errorf("received %+v", got)
			}
		})
	}
}

func mode(m smtp.TLSMode) func(*smtp.Config) { return func(c *smtp.Config) { c.TLS = m } }

// Connections that fail on the way to the login must not pile up.
func TestFailedConnectionsAreClosed(t *testing.T) {
	server := scripted(t, on("EHLO", "250-script\n250 AUTH PLAIN"))
	for _, script := range []standin.SMTPScript{
		func(event string) string { return on("EHLO", "500 no")(event) + on("HELO", "500 no")(event) },
		func(event string) string {
			return on("EHLO", "250-script\n250 AUTH PLAIN")(event) + on("AUTH", "535 no")(event)
		},
		on("EHLO", "250 script"), // no STARTTLS
	} {
		server.Follow(script)
		s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) {
			c.User, c.Pass = user, secret
			if script("EHLO") == "250 script" {
				c.TLS = smtp.TLSStartTLS
			}
		})
		for range 5 {
			if _, e := send(t, s, mailTo(to)); e == nil || e.Kind != dispatch.Down {
				t.Fatalf("Send = %v, want down", e)
			}
		}
	}
	eventually(t, "all connections to be closed", func() bool { return server.Open() == 0 })
}
