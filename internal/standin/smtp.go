package standin

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// SMTPTLS says how the SMTP stand-in encrypts.
type SMTPTLS string

// The ways to encrypt. The zero value does not.
const (
	SMTPPlain    SMTPTLS = ""
	SMTPStartTLS SMTPTLS = "starttls" // offers STARTTLS, and AUTH only after it
	SMTPImplicit SMTPTLS = "implicit" // TLS from the first byte
)

// SMTPOptions says what the SMTP stand-in offers.
type SMTPOptions struct {
	TLS        SMTPTLS
	User, Pass string   // the login it knows; with an empty User it offers no AUTH
	Mechanisms []string // of AUTH: PLAIN, LOGIN; nil means both
	MustLogin  bool     // takes no mail without AUTH
}

// SMTPReply is what a scripted SMTP does with a message that it would take, once that is
// complete. The zero value takes it.
type SMTPReply struct {
	Code     int    // such as 451, with which nothing is taken; 0 means 250
	Enhanced [3]int // its enhanced code, such as 4, 3, 0
	CutAfter bool   // take it, then close the connection without a reply
}

// SMTP is a mail server on a loopback address that keeps what it is sent.
type SMTP struct {
	options SMTPOptions
	server  *smtp.Server
	address *net.TCPAddr
	pool    *x509.CertPool
	served  chan struct{}
	accepts net.Listener

	mu       sync.Mutex
	callback func(Received)
	script   func(Received) SMTPReply
	received []Received
	logins   []string
	conns    int
}

// NewSMTP starts a mail server. Close it after use.
func NewSMTP(o SMTPOptions) (*SMTP, error) {
	if o.Mechanisms == nil {
		o.Mechanisms = []string{sasl.Plain, sasl.Login}
	}
	s := &SMTP{options: o, served: make(chan struct{})}
	var config *tls.Config
	if o.TLS != SMTPPlain {
		var err error
		if config, s.pool, err = loopbackTLS(); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().(*net.TCPAddr)
	if o.TLS == SMTPImplicit {
		l = tls.NewListener(l, config)
	}
	s.server = smtp.NewServer(smtp.BackendFunc(s.session))
	s.server.Domain = "standin.localhost"
	s.server.TLSConfig = config
	s.server.AllowInsecureAuth = o.TLS == SMTPPlain
	s.server.MaxMessageBytes = 32 << 20
	s.server.ReadTimeout = time.Minute
	s.server.WriteTimeout = time.Minute
	s.server.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up are none of our business
	s.accepts = l
	go func() {
		defer close(s.served)
		_ = s.server.Serve(l)
	}()
	return s, nil
}

// Host is the address it listens on.
func (s *SMTP) Host() string { return s.address.IP.String() }

// Port is the TCP port.
func (s *SMTP) Port() int { return s.address.Port }

// RootCAs returns the authority that signed its certificate, or nil where it
// has none.
func (s *SMTP) RootCAs() *x509.CertPool { return s.pool }

// Received returns the messages that it took, oldest first. Their ID is the
// Message-ID without brackets, Recipient the envelope's recipients joined by
// ", ", and Body the whole message as it came.
func (s *SMTP) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// Connections returns how many sessions clients have begun. STARTTLS begins
// a second one.
func (s *SMTP) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// Logins returns the mechanisms of all successful logins, oldest first.
func (s *SMTP) Logins() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

// OnReceive has f called with each message, before the server says that it
// took it.
func (s *SMTP) OnReceive(f func(Received)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callback = f
}

// Script has f say what becomes of each message; nil takes all of them.
func (s *SMTP) Script(f func(Received) SMTPReply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// Close ends all connections and waits for the listener to stop.
func (s *SMTP) Close() error {
	err := s.server.Close()
	_ = s.accepts.Close() // the server does not know it before Serve has begun
	<-s.served
	return err
}

func (s *SMTP) session(conn *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return &smtpSession{server: s, conn: conn}, nil
}

// smtpSession is one client's dealings with the server.
type smtpSession struct {
	server *SMTP
	conn   *smtp.Conn
	login  bool
	rcpts  []string
}

var errNotPermitted = &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "Authentication credentials invalid"}

func (c *smtpSession) AuthMechanisms() []string {
	if c.server.options.User == "" {
		return nil
	}
	return c.server.options.Mechanisms
}

func (c *smtpSession) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, pass string) error {
		if user != c.server.options.User || pass != c.server.options.Pass {
			return errNotPermitted
		}
		c.login = true
		c.server.mu.Lock()
		defer c.server.mu.Unlock()
		c.server.logins = append(c.server.logins, mechanism)
		return nil
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, user, pass string) error { return check(user, pass) }), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

func (c *smtpSession) Mail(string, *smtp.MailOptions) error {
	if c.server.options.MustLogin && !c.login {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	return nil
}

func (c *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.rcpts = append(c.rcpts, to)
	return nil
}

func (c *smtpSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err // cut off before the final dot: nothing was taken
	}
	m := receivedMail(c.rcpts, raw)
	reply := c.server.reply(m)
	if reply.Code != 0 {
		return &smtp.SMTPError{Code: reply.Code, EnhancedCode: reply.Enhanced, Message: "As it was told to"}
	}
	c.server.keep(m)
	if reply.CutAfter {
		return c.conn.Conn().Close()
	}
	return nil
}

func (c *smtpSession) Reset()        { c.rcpts = nil }
func (c *smtpSession) Logout() error { return nil }

// reply is what becomes of a message.
func (s *SMTP) reply(m Received) SMTPReply {
	s.mu.Lock()
	script := s.script
	s.mu.Unlock()
	if script == nil {
		return SMTPReply{}
	}
	return script(m)
}

// keep records a message.
func (s *SMTP) keep(m Received) {
	s.mu.Lock()
	s.received = append(s.received, m)
	callback := s.callback
	s.mu.Unlock()
	if callback != nil {
		callback(m)
	}
}

// receivedMail is what is kept of a message.
func receivedMail(rcpts []string, raw []byte) Received {
	m := Received{
		Channel:   dispatch.ChannelEmail,
		Recipient: strings.Join(rcpts, ", "),
		Body:      string(raw),
		At:        time.Now(),
	}
	if parsed, err := mail.ReadMessage(bytes.NewReader(raw)); err == nil {
		m.ID = strings.Trim(parsed.Header.Get("Message-ID"), "<> ")
	}
	return m
}

// loginServer is the server's half of AUTH LOGIN.
type loginServer struct {
	check func(user, pass string) error
	asked []string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil {
		l.asked = append(l.asked, string(response))
	}
	switch len(l.asked) {
	case 0:
		return []byte("Username:"), false, nil
	case 1:
		return []byte("Password:"), false, nil
	case 2:
		return nil, true, l.check(l.asked[0], l.asked[1])
	}
	return nil, false, errors.New("unexpected response")
}
