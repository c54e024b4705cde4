// Package smtp delivers e-mail through one SMTP server.
//
// Each attempt at a delivery sends the same bytes under the same Message-ID,
// in one transaction with all recipients: either the server takes the whole
// message or none of it. Connections are kept for a short while and reused.
package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Policy is how deliveries by SMTP are handled around the moment of sending.
//
// SMTP has no key that makes a server drop a repeated message, and no way to
// ask what became of one; after a lost answer the message is sent again, with
// its Message-ID, which lets the reader's mail program fold the two into one.
//
// Until the final dot an attempt has a minute; for the answer to it, ten more.
var Policy = dispatch.Policy{Announce: true, OnUnknown: dispatch.Resend, Provider: true, Timeout: beforeDot + afterDot}

// How long an attempt may take: until all of the message but its final dot has left, and for
// the answer to that. Some servers look through a message before they answer, and who hangs up
// on them sends it again and again, taken each time: RFC 5321, section 4.5.3.2.6, asks
// for ten minutes of patience.
const (
	beforeDot = time.Minute
	afterDot  = 10 * time.Minute
)

// Defaults of the Config fields that are zero.
const (
	DefaultPort           = 587
	DefaultImplicitPort   = 465
	DefaultMaxConns       = 4
	DefaultIdleTimeout    = 15 * time.Second
	DefaultConnectTimeout = 20 * time.Second
)

// Config says which server takes the mail, and who it is from.
type Config struct {
	Host string          // name or address of the server; required
	Port int             // 0 means DefaultPort, or DefaultImplicitPort with TLSImplicit
	User string          // "" means that no AUTH is tried
	Pass dispatch.Secret // goes with User
	From string          // one RFC 5322 address, with or without a name; required
	TLS  TLSMode         // "" chooses by port and host; see TLSMode

	RootCAs   *x509.CertPool // whom to trust; nil means the system's authorities
	LocalName string         // what EHLO says; "" means the host's name

	MaxConns       int           // connections at a time; 0 means DefaultMaxConns
	IdleTimeout    time.Duration // how long an unused connection is kept; 0 means DefaultIdleTimeout
	ConnectTimeout time.Duration // from dialling to logged in; 0 means DefaultConnectTimeout
}

// TLSMode says how a connection comes to be encrypted.
//
// The empty mode is TLSImplicit on port 465, TLSNone where Host is this
// machine (localhost, 127.0.0.0/8, ::1), and TLSStartTLS everywhere else.
// Certificates are always verified against Host.
//
// Credentials leave only over TLS, to this machine, or where the mode is
// spelled out as TLSNone. A server on this machine that offers neither AUTH
// nor STARTTLS gets the mail without them.
type TLSMode string

// The modes, by the words that a configuration uses.
const (
	TLSStartTLS      TLSMode = "starttls"      // refuse servers that do not offer STARTTLS
	TLSImplicit      TLSMode = "implicit"      // TLS from the first byte
	TLSOpportunistic TLSMode = "opportunistic" // STARTTLS where it is offered; an attacker on the wire can take it away
	TLSNone          TLSMode = "none"          // never
)

// Sender is a dispatch.Sender for content of type dispatch.Email. Close it
// after its last use.
type Sender struct {
	host, addr string
	mode       TLSMode
	tls        *tls.Config
	localName  string
	user       string
	pass       dispatch.Secret
	local      bool // the server is this machine
	plain      bool // TLSNone was asked for by name
	from       *mail.Address
	idFrom     string // what stands after the @ in a Message-ID

	connectTimeout, idleTimeout time.Duration
	beforeDot                   time.Duration // as the constant, but in tests

	slots  chan struct{} // one token for each connection in use
	mu     sync.Mutex
	idle   []*conn // the last used is last
	closed bool
}

var _ dispatch.Sender = (*Sender)(nil)

// New returns a Sender for the server that c describes. It does not connect.
// Its errors name the variable that has to be mended, and never show Pass.
func New(c Config) (*Sender, error) {
	if c.Host == "" || strings.ContainsAny(c.Host, "/ \t\r\n") {
		return nil, fmt.Errorf("SMTP_HOST: %q is not the name of a server", c.Host)
	}
	if c.Port < 0 || c.Port > 65535 {
		return nil, fmt.Errorf("SMTP_PORT: %d is not between 1 and 65535", c.Port)
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("SMTP_FROM: %q is not one e-mail address", c.From)
	}
	if !isASCII(from.Address) || hasControl(from.Name) {
		return nil, fmt.Errorf("SMTP_FROM: %q has characters that an address cannot have; write its domain in the form that begins with xn--", c.From)
	}
	loopback := isLoopback(c.Host)
	mode := c.TLS
	switch mode {
	case TLSStartTLS, TLSImplicit, TLSOpportunistic, TLSNone:
	case "":
		switch {
		case c.Port == DefaultImplicitPort:
			mode = TLSImplicit
		case loopback:
			mode = TLSNone
		default:
			mode = TLSStartTLS
		}
	default:
		return nil, fmt.Errorf("the TLS mode for SMTP: %q is none of starttls, implicit, opportunistic, none", c.TLS)
	}
	if c.Port == 0 {
		c.Port = DefaultPort
		if mode == TLSImplicit {
			c.Port = DefaultImplicitPort
		}
	}
	return &Sender{
		host:           c.Host,
		addr:           net.JoinHostPort(c.Host, strconv.Itoa(c.Port)),
		mode:           mode,
		tls:            &tls.Config{ServerName: c.Host, RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		localName:      c.LocalName,
		user:           c.User,
		pass:           c.Pass,
		local:          loopback,
		plain:          c.TLS == TLSNone,
		from:           from,
		idFrom:         from.Address[strings.LastIndex(from.Address, "@")+1:],
		connectTimeout: orDefault(c.ConnectTimeout, DefaultConnectTimeout),
		idleTimeout:    orDefault(c.IdleTimeout, DefaultIdleTimeout),
		beforeDot:      beforeDot,
		slots:          make(chan struct{}, orDefault(max(c.MaxConns, 0), DefaultMaxConns)),
	}, nil
}

// Destination implements dispatch.Addressed: the server. The user is left out: some
// services take their key for one.
func (s *Sender) Destination(*dispatch.Delivery) string { return strings.ToLower(s.addr) }

// Send hands d to the server and waits for its answer to the whole message.
// The receipt's ProviderID is that answer's text, since servers put their
// queue id there in no common form.
//
// An error is a *dispatch.Error. It is Unknown only where the final dot was
// sent and no answer to it came. A ctx without a deadline gets that of Policy.
func (s *Sender) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	// Rendered to the end before anything is dialled: a message that failed
	// halfway through DATA would leave the server with half of it.
	m, err := s.render(d)
	if err != nil {
		return dispatch.Receipt{}, &dispatch.Error{
			Channel: dispatch.ChannelEmail, Kind: dispatch.Rejected, Err: err,
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	soon, cancel := context.WithTimeout(ctx, s.beforeDot)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-soon.Done():
	}
	if soon.Err() != nil {
		return dispatch.Receipt{}, s.fail(soon, m, failed(stageConnect, errNoTime))
	}
	reply, f := s.deliver(ctx, soon, m, false)
	if f != nil && f.stale && ended(soon) == nil {
		reply, f = s.deliver(ctx, soon, m, true)
	}
	switch {
	case f != nil && f.stage == stageDot:
		return dispatch.Receipt{}, s.fail(ctx, m, f)
	case f != nil:
		return dispatch.Receipt{}, s.fail(soon, m, f)
	}
	return dispatch.Receipt{ProviderID: printable(m.hide(reply), maxReply), Status: 250}, nil
}

var errNoTime = errors.New("nothing was sent")

// deliver makes one transaction for m, on a kept connection unless fresh. All but the answer
// to the final dot has to be there soon.
func (s *Sender) deliver(ctx, soon context.Context, m *message, fresh bool) (reply string, f *failure) {
	c, reused, f := s.get(soon, fresh)
	if f != nil {
		return "", f
	}
	if !dispatch.Ours(ctx) {
		s.put(c)
		return "", failed(stageConnect, dispatch.ErrLate)
	}
	release := c.guard.bind(soon)
	reply, f = c.submit(m, func() bool {
		inTime := release()
		if inTime {
			release = c.guard.bind(ctx)
		}
		return inTime
	})
	keep := f == nil
	if f != nil && f.answered() {
		keep = c.reset()
	}
	// When the context ended meanwhile, its end may still be on its way to
	// the connection and must not meet the next message there.
	if !release() || !keep {
		c.guard.Close()
	} else {
		s.put(c)
	}
	if f != nil {
		// The server gave up a connection that we had kept. It has seen
		// nothing of the message, so a new connection may try at once.
		f.stale = reused && f.stage == stageMail && (f.code() == 0 || f.code() == 421)
	}
	return reply, f
}

// isLoopback reports whether host is this machine, without asking DNS.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
