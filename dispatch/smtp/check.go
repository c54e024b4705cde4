package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Check connects, encrypts and logs in as for a message, names the sender of
// messages to the server, and takes leave: nothing is sent. Its error names the
// variables of which one has to be mended, and shows neither user nor password.
func (s *Sender) Check(ctx context.Context) error {
	c, err := s.dial(ctx)
	if err != nil {
		return s.blame(ctx, blamed(err), err)
	}
	release := c.guard.bind(ctx)
	err = c.client.Mail(s.from.Address)
	release()
	defer c.quit()
	switch code := replyCode(err); {
	case err == nil:
		return nil
	case code == 530 && s.user == "":
		return s.blame(ctx, "SMTP_USER", err)
	case code/100 == 5:
		return s.blame(ctx, "SMTP_FROM", err)
	}
	return s.blame(ctx, "SMTP_HOST", err)
}

// blamed names the variables that a connection has failed for.
func blamed(err error) string {
	if _, ok := errors.AsType[*loginError](err); ok {
		return "SMTP_USER or SMTP_PASS"
	}
	if _, ok := errors.AsType[*notLoggedIn](err); ok {
		return "SMTP_USER or SMTP_TLS"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "SMTP_HOST"
	}
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	if certificate || noTLS || strings.Contains(err.Error(), "STARTTLS") {
		return "SMTP_TLS or SMTP_HOST"
	}
	return "SMTP_HOST or SMTP_PORT"
}

func (s *Sender) blame(ctx context.Context, variables string, err error) error {
	text := printable(dispatch.MaskText(s.withoutLogin(err.Error())), 2*maxReply)
	if ended(ctx) != nil && replyCode(err) == 0 {
		text = "no answer in time"
	}
	return fmt.Errorf("%s: %s", variables, text)
}
