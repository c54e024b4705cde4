package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/textproto"
	"time"

	gomail "github.com/wneessen/go-mail"
	wire "github.com/wneessen/go-mail/smtp"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// conn is one logged-in connection. One goroutine uses it at a time.
type conn struct {
	guard  *guard
	client *wire.Client
	timer  *time.Timer // closes it once it has been idle for too long
}

// dial connects, encrypts and logs in. Every failure of it means that the
// server has not seen the message.
//
// Each connection has a mail client of its own, which is cheap: the client
// keeps state while it encrypts and logs in, and it forgets connections that
// fail on the way, so that dial has to close those.
func (s *Sender) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.connectTimeout)
	defer cancel()

	var g *guard
	release := func() bool { return true }
	// The context that the library passes in ends with its part of the work.
	open := func(context.Context, string, string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return nil, err
		}
		g = &guard{Conn: raw}
		release = g.bind(ctx)
		if s.mode != TLSImplicit {
			return g, nil
		}
		// With a dial function of ours, the library's own implicit TLS would
		// send everything in the clear.
		t := tls.Client(g, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return t, nil
	}
	policy := gomail.NoTLS
	switch s.mode {
	case TLSStartTLS:
		policy = gomail.TLSMandatory
	case TLSOpportunistic:
		policy = gomail.TLSOpportunistic
	}
	options := []gomail.Option{
		gomail.WithTimeout(s.connectTimeout),
		gomail.WithTLSPolicy(policy),
		gomail.WithTLSConfig(s.tls),
		gomail.WithoutSMTPUTF8(), // addresses are ASCII, and who asks for it may be refused further on
		gomail.WithDialContextFunc(open),
	}
	if s.localName != "" {
		options = append(options, gomail.WithHELO(s.localName))
	}
	library, err := gomail.NewClient(s.host, options...)
	if err != nil {
		return nil, err
	}
	client, err := library.DialToSMTPClientWithContext(ctx)
	if err == nil {
		if err = s.login(client); err != nil {
			err = &notLoggedIn{err}
		}
	}
	if !release() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if g != nil {
			g.Close()
		}
		return nil, err
	}
	return &conn{guard: g, client: client}, nil
}

// submit makes one transaction: sender, all recipients, the message. It
// returns the server's answer to the final dot. After a failure before the
// dot the server keeps nothing. complete is asked before the dot whether there is still time.
func (c *conn) submit(m *message, complete func() bool) (reply string, f *failure) {
	failpoint.Hit("K6")
	if err := c.client.Mail(m.from); err != nil {
		return "", failed(stageMail, err)
	}
	failpoint.Hit("K16a")
	if err := c.recipients(m.rcpts); err != nil {
		return "", failed(stageRcpt, err)
	}
	failpoint.Hit("K16b")
	w, err := c.client.Data()
	if err != nil {
		return "", failed(stageData, err)
	}
	failpoint.Hit("K16c")
	// From here on only the dot may end the message. QUIT and RSET write one
	// too, behind however much of the message has left.
	if _, err := w.Write(m.data); err != nil {
		return "", failed(stageBody, err)
	}
	failpoint.Hit("K16d")
	if !complete() {
		return "", failed(stageBody, errNoTime)
	}
	c.guard.dot = true
	err = w.Close()
	c.guard.dot = false
	failpoint.Hit("K16f")
	if data, ok := w.(*wire.DataCloser); ok {
		reply = data.ServerResponse()
	}
	f = failed(stageDot, err)
	switch {
	case err == nil, f.code()/100 == 2:
		return reply, nil
	case f.code() == 0 && c.guard.writeFailed():
		f.stage = stageBody // the dot is the last to leave, and not all did
	}
	return "", f
}

// recipients names them all to the server. The message cannot go to some of
// them alone; where several are refused, a refusal for good is the one that
// counts.
func (c *conn) recipients(rcpts []string) error {
	var first error
	for _, r := range rcpts {
		err := c.client.Rcpt(r)
		if err == nil {
			continue
		}
		switch code := replyCode(err); {
		case code/100 == 5:
			return err
		case first == nil:
			first = err
		}
		if code := replyCode(err); code == 0 || code == 421 {
			return first // nothing more is to be heard
		}
	}
	return first
}

// reset ends a transaction that failed, and reports whether the connection
// can be used for another one.
func (c *conn) reset() bool {
	c.guard.hurry(politeness)
	return c.client.Reset() == nil
}

// politeness is how long a server may take over a farewell.
const politeness = 2 * time.Second

// quit takes leave and closes.
func (c *conn) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), politeness)
	defer cancel()
	defer c.guard.bind(ctx)()
	_ = c.client.Quit()
	c.guard.Close()
}

// replyCode is the code of the server's reply that err stands for, or 0 when
// err is not a reply.
func replyCode(err error) int {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return reply.Code
	}
	return 0
}
