package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

const (
	from   = "Myst Services <office@myst.example>"
	to     = "jane.doe@customer.example"
	user   = "mailer-7f3a"
	secret = "p4ss-w0rd-canary"
)

// on is a script that answers one kind of event, by its first word, and is
// willing otherwise.
func on(verb, reply string) standin.SMTPScript {
	return func(event string) string {
		if event == verb || strings.HasPrefix(event, verb+" ") {
			return reply
		}
		return ""
	}
}

// scripted starts a scripted server for the length of the test.
func scripted(t *testing.T, script standin.SMTPScript) *standin.ScriptedSMTP {
	t.Helper()
	server, err := standin.NewScriptedSMTP(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

// sender returns a sender to host and port; with says what differs.
func sender(t *testing.T, host string, port int, with func(*smtp.Config)) *smtp.Sender {
	t.Helper()
	c := smtp.Config{Host: host, Port: port, From: from}
	if with != nil {
		with(&c)
	}
	s, err := smtp.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mailTo(recipients ...string) *dispatch.Delivery {
	return sendertest.NewDelivery(dispatch.ChannelEmail, strings.Join(recipients, ", "), dispatch.Email{
		To: recipients, Subject: "Your estimate", Text: "Dear customer,\n\nyour estimate is ready.\n",
	})
}

// send sends d within five seconds.
func send(t *testing.T, s *smtp.Sender, d *dispatch.Delivery) (dispatch.Receipt, *dispatch.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := s.Send(ctx, d)
	if err == nil {
		return r, nil
	}
	e, ok := errors.AsType[*dispatch.Error](err)
	if !ok {
		t.Fatalf("Send returned a %T: %v", err, err)
	}
	return r, e
}

func TestSender(t *testing.T) {
	server := scripted(t, nil)
	follow := func(script standin.SMTPScript) func() { return func() { server.Follow(script) } }
	offerAuth := func(then standin.SMTPScript) func() {
		return follow(func(event string) string {
			if strings.HasPrefix(event, "EHLO") {
				return "250-script\n250 AUTH PLAIN"
			}
			return then(event)
		})
	}
	at := func(stage string) string {
		if stage == "greeting" {
			return "connect"
		}
		return stage
	}
	cases := []sendertest.Case{
		{Name: "login refused", Prepare: offerAuth(on("AUTH", "535 5.7.8 no such user "+user+" with "+secret)), Kind: dispatch.Down, Status: 535, Code: "5.7.8"},
		{Name: "login refused for now", Prepare: offerAuth(on("AUTH", "454 4.7.0 later")), Kind: dispatch.Down, Status: 454},
		{Name: "too many connections", Prepare: follow(on("connect", "421 4.7.0 too many connections from you")), Kind: dispatch.Throttled, Status: 421},
		{Name: "login needed after all", Prepare: follow(on("MAIL", "530 5.7.0 Authentication required")), Kind: dispatch.Down, Status: 530},
		{Name: "login needed, said late", Prepare: follow(on("RCPT", "530 5.7.0 Must issue a STARTTLS command first")), Kind: dispatch.Down, Status: 530},
		{Name: "sender refused", Prepare: follow(on("MAIL", "553 5.7.1 not your address")), Kind: dispatch.Down, Status: 553},
		{Name: "no such mailbox", Prepare: follow(on("RCPT", "550 5.1.1 <"+to+">: no jane.doe here")), Kind: dispatch.Rejected, Status: 550, Code: "5.1.1"},
		{Name: "greylisted", Prepare: follow(on("RCPT", "450 4.7.1 Greylisted, come back in 300 seconds")), Kind: dispatch.Down, Status: 450},
		{Name: "too fast", Prepare: follow(on("RCPT", "451 4.7.500 Server busy")), Kind: dispatch.Throttled, Status: 451, Code: "4.7.500"},
		{Name: "too fast, in words", Prepare: follow(on("MAIL", "450 you are sending at too high a rate")), Kind: dispatch.Throttled, Status: 450},
		{Name: "mailbox full", Prepare: follow(on("RCPT", "452 4.2.2 over quota, limit exceeded")), Kind: dispatch.Down, Status: 452},
		{Name: "too many recipients", Prepare: follow(on("RCPT", "452 4.5.3 too many recipients")), Kind: dispatch.Down, Status: 452},
		{Name: "day's quota used up", Prepare: follow(on(".", "550 5.4.5 Daily user sending limit exceeded")), Kind: dispatch.Throttled, Status: 550},
		{Name: "spam", Prepare: follow(on(".", "554 5.7.1 looks like spam")), Kind: dispatch.Rejected, Status: 554},
		{Name: "too big", Prepare: follow(on(".", "552-5.3.4 too\n552 5.3.4 big")), Kind: dispatch.Rejected, Status: 552},
		{Name: "DATA goes wrong", Prepare: follow(on("DATA", "250 what?")), Kind: dispatch.Down, Status: 250},
		{Name: "dot goes wrong", Prepare: follow(on(".", "354 go on")), Kind: dispatch.Unknown, Status: 354},
		{Name: "dot gets no SMTP", Prepare: follow(on(".", "HTTP/1.1 400 Bad Request")), Kind: dispatch.Unknown},
		{Name: "dot gets another success", Prepare: follow(on(".", "252 fine")), Status: 250},
		{Name: "connection ends at the dot", Prepare: follow(on(".", standin.SMTPDrop)), Kind: dispatch.Unknown},
		{Name: "connection ends in the body", Prepare: follow(on("body", standin.SMTPDrop)), Kind: dispatch.Unknown},
		{Name: "RSET is refused", Prepare: follow(on("RSET", "500 no")), Status: 250},
		{Name: "QUIT is refused", Prepare: follow(on("QUIT", "500 no")), Status: 250},
		{Name: "RSET is refused after a refusal", Prepare: follow(func(event string) string {
			return on("RCPT", "550 no")(event) + on("RSET", standin.SMTPDrop)(event)
		}), Kind: dispatch.Rejected, Status: 550},
		{Name: "no SMTP at all", Prepare: follow(on("connect", "HTTP/1.1 400 Bad Request")), Kind: dispatch.Down},
		{Name: "STARTTLS is not offered and the login needs it", Prepare: follow(on("EHLO", "250-script\n250 STARTTLS")), Kind: dispatch.Down},
	}
	for _, stage := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		for _, code := range []int{421, 450, 451, 452, 550, 552} {
			want := dispatch.Down
			if code >= 500 && stage != "greeting" && stage != "EHLO" && stage != "MAIL" {
				want = dispatch.Rejected
			}
			script := on(at(stage), fmt.Sprintf("%d not so", code))
			if stage == "EHLO" {
				inner := script
				script = func(event string) string { return inner(event) + on("HELO", fmt.Sprintf("%d not so", code))(event) }
			}
			cases = append(cases, sendertest.Case{
				Name: fmt.Sprintf("%s %d", stage, code), Prepare: follow(script), Kind: want, Status: code,
			})
		}
		if stage != "." {
			cases = append(cases, sendertest.Case{
				Name: stage + " ends the connection", Prepare: follow(on(at(stage), standin.SMTPDrop)), Kind: dispatch.Down,
			})
		}
	}
	sendertest.Run(t, sendertest.Suite{
		Channel: dispatch.ChannelEmail,
		New: func(t *testing.T) dispatch.Sender {
			return sender(t, server.Host(), server.Port(), func(c *smtp.Config) { c.User, c.Pass = user, secret })
		},
		Delivery: func() *dispatch.Delivery { return mailTo(to) },
		Accept:   follow(nil),
		Taken:    func() int { return len(server.Received()) },
		Hang:     follow(on(".", standin.SMTPHang)),
		Flood:    follow(on("connect", "220 "+strings.Repeat("x", 10<<20))),
		Cases:    cases,
		Secrets:  []string{user, secret, "\x00" + user + "\x00" + secret, "jane.doe", "Dear customer"},
	})
}

// Where a context strikes decides whether anything can have arrived.
func TestContextCutsShort(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event string
		want  dispatch.Kind
	}{
		{"at the greeting", "connect", dispatch.Down},
		{"at EHLO", "EHLO", dispatch.Down},
		{"in the TLS handshake", "tls", dispatch.Down},
		{"at MAIL", "MAIL", dispatch.Down},
		{"at RCPT", "RCPT", dispatch.Down},
		{"at DATA", "DATA", dispatch.Down},
		{"in the message", "body", dispatch.Down},
		{"after the final dot", ".", dispatch.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reached := make(chan struct{}, 1)
			server := scripted(t, func(event string) string {
				if strings.HasPrefix(event, "EHLO") && tt.event == "tls" {
					return "250-script\n250 STARTTLS"
				}
				if reply := on(tt.event, standin.SMTPHang)(event); reply != "" {
					reached <- struct{}{}
					return reply
				}
				return ""
			})
			s := sender(t, server.Host(), server.Port(), func(c *smtp.Config) {
				if tt.event == "tls" {
					c.TLS, c.RootCAs = smtp.TLSStartTLS, server.RootCAs()
				}
			})
			d := mailTo(to)
			if tt.event == "body" {
				// More than all buffers on the way hold, so that it cannot have left.
				d = sendertest.NewDelivery(dispatch.ChannelEmail, to, dispatch.Email{
					To: []string{to}, Subject: "big", Text: strings.Repeat("All work and no play.\n", 1<<19),
				})
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			_, err := s.Send(ctx, d)
			e := dispatch.AsError(dispatch.ChannelEmail, err)
			if err == nil || e.Kind != tt.want {
				t.Errorf("Send = %v, want %s", err, tt.want)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not context.Canceled", err)
			}
			if got := server.Received(); len(got) != 0 {
				t.Errorf("the server took %d messages", len(got))
			}
		})
	}
}

// A message that broke off must never be completed by a farewell: both QUIT
// and RSET write the final dot first, and the server would deliver half of it.
func TestTruncatedMessageIsNeverCompleted(t *testing.T) {
	release := make(chan struct{})
	body := make(chan struct{})
	var once sync.Once
	server := scripted(t, func(event string) string {
		if event == "body" {
			once.Do(func() { close(body) })
			<-release // reads on only after the client has given up
		}
		return ""
	})
	s := sender(t, server.Host(), server.Port(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-body
		cancel()
	}()
	d := sendertest.NewDelivery(dispatch.ChannelEmail, to, dispatch.Email{
		To: []string{to}, Subject: "big", Text: strings.Repeat("All work and no play.\n", 1<<19),
	})
	_, err := s.Send(ctx, d)
	if e := dispatch.AsError(dispatch.ChannelEmail, err); err == nil || e.Kind != dispatch.Down {
		t.Errorf("Send = %v, want down", err)
	}
	close(release)
	s.Close()
	if _, e := send(t, sender(t, server.Host(), server.Port(), nil), mailTo(to)); e != nil {
		t.Fatal(e)
	}
	server.Close() // waits for the first connection's end too
	if n := server.Ended(); n != 1 {
		t.Errorf("%d messages came to their end, want the second alone", n)
	}
}

// All recipients or none, whatever the order of the refusals.
func TestOneRecipientRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replies map[string]string
		want    dispatch.Kind
		status  int
	}{
		{"first for good", map[string]string{"a@": "550 5.1.1 no", "c@": "450 4.2.0 later"}, dispatch.Rejected, 550},
		{"last for good", map[string]string{"a@": "450 4.2.0 later", "c@": "550 5.1.1 no"}, dispatch.Rejected, 550},
		{"one for now", map[string]string{"b@": "452 4.5.3 too many"}, dispatch.Down, 452},
		{"hung up after a refusal", map[string]string{"b@": "450 later", "c@": standin.SMTPDrop}, dispatch.Down, 450},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := scripted(t, func(event string) string {
				for who, reply := range tt.replies {
					if strings.HasPrefix(event, "RCPT") && strings.Contains(event, who) {
						return reply
					}
				}
				return ""
			})
			s := sender(t, server.Host(), server.Port(), nil)
			_, e := send(t, s, mailTo("a@x.example", "b@x.example", "c@x.example"))
			if e == nil || e.Kind != tt.want || e.Status != tt.status {
				t.Errorf("Send = %v; want %s, status %d", e, tt.want, tt.status)
			}
			for _, event := range server.Events() {
				if event == "DATA" {
					t.Error("the message was sent to some of them")
				}
			}
		})
	}
}

func TestReceipt(t *testing.T) {
	for _, tt := range []struct{ name, reply, want string }{
		{"queue id", "250 2.0.0 Ok: queued as 4XyZ1", "2.0.0 Ok: queued as 4XyZ1"},
		{"several lines", "250-2.0.0 Ok\n250 queued as 9", "2.0.0 Ok queued as 9"},
		{"no text", "250 ", ""},
		{"control characters", "250 Ok\x1b[31m\tqueued\x00 9", "Ok [31m queued 9"},
		{"recipient", "250 taken for " + to + " as 7", "taken for ***@customer.example as 7"},
		{"long", "250 " + strings.Repeat("ä", 200), strings.Repeat("ä", 98) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := scripted(t, on(".", tt.reply))
			r, e := send(t, sender(t, server.Host(), server.Port(), nil), mailTo(to))
			if e != nil {
				t.Fatal(e)
			}
			if r.ProviderID != tt.want || r.Status != 250 {
				t.Errorf("receipt = %+v, want %q", r, tt.want)
			}
		})
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		with  func(*smtp.Config)
		wrong string // what the error names; "" for none
	}{
		{"enough", func(*smtp.Config) {}, ""},
		{"no host", func(c *smtp.Config) { c.Host = "" }, "SMTP_HOST"},
		{"a socket", func(c *smtp.Config) { c.Host = "unix:///run/mail" }, "SMTP_HOST"},
		{"no port like that", func(c *smtp.Config) { c.Port = 70000 }, "SMTP_PORT"},
		{"no sender", func(c *smtp.Config) { c.From = "" }, "SMTP_FROM"},
		{"two senders", func(c *smtp.Config) { c.From = "a@b.example, c@d.example" }, "SMTP_FROM"},
		{"header in the sender", func(c *smtp.Config) { c.From = "=?utf-8?q?a=0D=0ABcc:_x@y?= <a@b.example>" }, "SMTP_FROM"},
		{"sender outside of ASCII", func(c *smtp.Config) { c.From = "büro@bücher.example" }, "SMTP_FROM"},
		{"mode", func(c *smtp.Config) { c.TLS = "ssl" }, "TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := smtp.Config{Host: "mail.example", From: from, User: user, Pass: secret}
			tt.with(&c)
			_, err := smtp.New(c)
			if tt.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), secret) {
				t.Errorf("New = %v, want an error that names %s", err, tt.wrong)
			}
		})
	}
}
