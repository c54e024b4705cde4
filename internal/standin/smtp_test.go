package standin

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/smtp"
	"strings"
	"testing"
	"time"
)

const sample = "Message-ID: <1@x.example>\r\nSubject: s\r\n\r\n.dot\r\n"

func TestSMTP(t *testing.T) {
	for _, tt := range []struct {
		name  string
		o     SMTPOptions
		login bool
	}{
		{"plain", SMTPOptions{}, false},
		{"STARTTLS with a login", SMTPOptions{TLS: SMTPStartTLS, User: "u", Pass: "p", MustLogin: true}, true},
		{"implicit", SMTPOptions{TLS: SMTPImplicit, User: "u", Pass: "p"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSMTP(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var seen []Received
			s.OnReceive(func(r Received) { seen = append(seen, r) })
			addr := fmt.Sprintf("%s:%d", s.Host(), s.Port())
			trust := &tls.Config{RootCAs: s.RootCAs(), ServerName: s.Host()}

			var c *smtp.Client
			if tt.o.TLS == SMTPImplicit {
				conn, err := tls.Dial("tcp", addr, trust)
				if err != nil {
					t.Fatal(err)
				}
				c, err = smtp.NewClient(conn, s.Host())
				if err != nil {
					t.Fatal(err)
				}
			} else if c, err = smtp.Dial(addr); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if tt.o.TLS == SMTPStartTLS {
				if ok, _ := c.Extension("AUTH"); ok {
					t.Error("AUTH is offered before STARTTLS")
				}
				if err := c.StartTLS(trust); err != nil {
					t.Fatal(err)
				}
				if err := c.Mail("a@x.example"); err == nil {
					t.Error("took mail without the login that it insists on")
				}
			}
			if tt.login {
				if err := c.Auth(smtp.PlainAuth("", "u", "p", s.Host())); err != nil {
					t.Fatal(err)
				}
			}
			sendSample(t, c, "b@x.example", "c@x.example")
			got := s.Received()
			if len(got) != 1 || got[0].ID != "1@x.example" || got[0].Recipient != "b@x.example, c@x.example" || got[0].Body != sample {
				t.Errorf("received %+v", got)
			}
			if len(seen) != 1 || time.Since(seen[0].At) > time.Minute {
				t.Errorf("callback saw %+v", seen)
			}
			if n := len(s.Logins()); (n == 1) != tt.login {
				t.Errorf("logins %v", s.Logins())
			}
		})
	}
}

// sendSample sends the sample.
func sendSample(t *testing.T, c *smtp.Client, to ...string) {
	t.Helper()
	if err := c.Mail("a@x.example"); err != nil {
		t.Fatal(err)
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, sample); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestScriptedSMTP(t *testing.T) {
	s, err := NewScriptedSMTP(func(event string) string {
		if strings.HasPrefix(event, "EHLO") {
			return "250-script\n250 STARTTLS"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := smtp.Dial(fmt.Sprintf("%s:%d", s.Host(), s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{RootCAs: s.RootCAs(), ServerName: s.Host()}); err != nil {
		t.Fatal(err)
	}
	sendSample(t, c, "b@x.example")
	if got := s.Received(); len(got) != 1 || got[0].Body != sample || got[0].Recipient != "b@x.example" || s.Ended() != 1 {
		t.Errorf("received %+v, %d ended", got, s.Ended())
	}
	s.Follow(func(event string) string {
		if event == "." {
			return SMTPDrop
		}
		return ""
	})
	if err := c.Mail("a@x.example"); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt("b@x.example"); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("the dropped message was answered")
	}
	if len(s.Received()) != 1 || s.Ended() != 2 {
		t.Errorf("received %d, %d ended", len(s.Received()), s.Ended())
	}
}
