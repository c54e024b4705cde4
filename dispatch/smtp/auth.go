package smtp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	wire "github.com/wneessen/go-mail/smtp"
)

// login authenticates, where there is a user to authenticate as.
func (s *Sender) login(c *wire.Client) error {
	if s.user == "" {
		return nil
	}
	_, encrypted := c.TLSConnectionState()
	offered, list := c.Extension("AUTH")
	if !offered {
		starttls, _ := c.Extension("STARTTLS")
		switch {
		case encrypted || !s.local:
			return errors.New("a user is configured, but the server offers no AUTH")
		case starttls && !s.plain:
			return errors.New("the server offers AUTH after STARTTLS only: set the TLS mode to starttls, or to none to send without AUTH")
		}
		return nil // a development server on this machine
	}
	if !encrypted && !s.local && !s.plain {
		return errors.New("credentials are not sent without TLS")
	}
	mech, err := s.mechanism(strings.Fields(strings.ToUpper(list)), encrypted)
	if err != nil {
		return err
	}
	if err := c.Auth(mech); err != nil {
		return &loginError{err}
	}
	return nil
}

// notLoggedIn is why there was no login on a connection that is there.
type notLoggedIn struct{ err error }

func (e *notLoggedIn) Error() string { return e.err.Error() }
func (e *notLoggedIn) Unwrap() error { return e.err }

// mechanism picks from those that the server offers: what works most widely
// where the connection is encrypted, what hides the password where not.
func (s *Sender) mechanism(offered []string, encrypted bool) (wire.Auth, error) {
	order := []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"}
	if encrypted {
		order = []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1"}
	}
	user, pass := s.user, s.pass.Reveal()
	for _, name := range order {
		if !slices.Contains(offered, name) {
			continue
		}
		switch name {
		case "SCRAM-SHA-256":
			return wire.ScramSHA256Auth(user, pass), nil
		case "SCRAM-SHA-1":
			return wire.ScramSHA1Auth(user, pass), nil
		case "CRAM-MD5":
			return wire.CRAMMD5Auth(user, pass), nil
		case "PLAIN":
			return wire.PlainAuth("", user, pass, s.host, true), nil
		case "LOGIN":
			return wire.LoginAuth(user, pass, s.host, true), nil
		}
	}
	return nil, errors.New("the server offers no AUTH mechanism that is known here")
}

// loginError is a failed AUTH. Its text has the reply's codes and nothing
// else: servers repeat commands in their replies, and this one carried the
// credentials.
type loginError struct{ err error }

func (e *loginError) Error() string {
	if code := replyCode(e.err); code != 0 {
		return strings.TrimSpace(fmt.Sprintf("AUTH was refused: %d %s", code, enhancedCode(e.err)))
	}
	return "AUTH broke off"
}

func (e *loginError) Unwrap() error { return e.err }
