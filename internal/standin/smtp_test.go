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

// TestSMTPReplies: a script may have a message refused once it is complete, or taken and
// not answered, and the connection is of use only where that was answered.
func TestSMTPReplies(t *testing.T) {
	s, err := NewSMTP(SMTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	replies := []SMTPReply{{Code: 451, Enhanced: [3]int{4, 3, 0}}, {}, {CutAfter: true}}
	s.Script(func(m Received) SMTPReply {
		if m.ID != "1@x.example" {
			t.Errorf("asked about %+v", m)
		}
		next := replies[0]
		replies = replies[1:]
		return next
	})
	c, err := smtp.Dial(fmt.Sprintf("%s:%d", s.Host(), s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, want := range []struct {
		reply string // the beginning of the error
		taken int    // messages, in the end
	}{{`451 "4.3.0 `, 0}, {"", 1}, {"EOF", 2}} {
		err := trySample(c, "b@x.example")
		if (err == nil) != (want.reply == "") || err != nil && !strings.HasPrefix(err.Error(), want.reply) {
			t.Errorf("message %d: %v, want %q", i, err, want.reply)
		}
		if n := len(s.Received()); n != want.taken {
			t.Errorf("message %d: %d are taken, want %d", i, n, want.taken)
		}
	}
}

// sendSample sends the sample.
func sendSample(t *testing.T, c *smtp.Client, to ...string) {
	t.Helper()
	if err := trySample(c, to...); err != nil {
		t.Fatal(err)
	}
}

func trySample(c *smtp.Client, to ...string) error {
	if err := c.Mail("a@x.example"); err != nil {
		return err
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, sample); err != nil {
		return err
	}
	return w.Close()
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
