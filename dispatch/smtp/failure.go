package smtp

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// stage is how far a transaction had come when it failed.
type stage string

const (
	stageConnect stage = "connect" // dial, greeting, EHLO, STARTTLS, AUTH
	stageMail    stage = "MAIL"
	stageRcpt    stage = "RCPT"
	stageData    stage = "DATA"
	stageBody    stage = "message" // some of the message may have left, the final dot has not
	stageDot     stage = "end of message"
)

// failure is a transaction that the server did not confirm.
type failure struct {
	stage stage
	err   error // a *textproto.Error where the server said so
	stale bool  // a kept connection had died; the server has seen nothing
}

func failed(at stage, err error) *failure { return &failure{stage: at, err: err} }

// code is the code of the server's reply, or 0 when none came.
func (f *failure) code() int { return replyCode(f.err) }

// answered reports whether the server said no and still listens.
func (f *failure) answered() bool {
	return f.stage != stageConnect && f.stage != stageBody && f.code() >= 400 && f.code() != 421
}

// kind says what follows from the failure (RFC 5321 section 4.2, RFC 3463,
// RFC 4954):
//
//	no reply, final dot sent       Unknown: the server may have taken it
//	no reply before that           Down: without its final dot it is nothing
//	4xx, about our rate            Throttled
//	4xx                            Down: busy, greylisting, mailbox full
//	5xx, about a daily quota       Throttled: some say 550 and mean tomorrow
//	5xx while connecting, at MAIL  Down: about us, not about the message
//	530, 534, 535, 538             Down: it wants a login or TLS
//	5xx                            Rejected
//	anything else                  as if no reply had come
func (f *failure) kind() dispatch.Kind {
	code := f.code()
	switch code / 100 {
	case 4:
		if f.aboutRate() {
			return dispatch.Throttled
		}
		return dispatch.Down
	case 5:
		switch {
		case f.aboutQuota():
			return dispatch.Throttled
		case f.stage == stageConnect, f.stage == stageMail:
			return dispatch.Down
		case code == 530, code == 534, code == 535, code == 538:
			return dispatch.Down
		}
		return dispatch.Rejected
	}
	if f.stage == stageDot {
		return dispatch.Unknown
	}
	return dispatch.Down
}

var (
	enhanced   = regexp.MustCompile(`\b[245]\.\d{1,3}\.\d{1,3}\b`)
	rateWords  = regexp.MustCompile(`(?i)thrott?l|\brate\b|too (many|much|fast|frequent)|flood|slow down|limit exceeded|exceeded .*limit`)
	grayWords  = regexp.MustCompile(`(?i)gr[ea]y-?list`)
	quotaWords = regexp.MustCompile(`(?i)\b(daily|hourly|sending) [a-z ]*(limit|quota)\b`)
)

// aboutRate reports whether a 4xx says that we send too fast. Greylisting
// often comes as 4.7.1, but is about one pair of addresses. Too many
// recipients (4.5.3) and a full mailbox (4.2.2) are about this message.
func (f *failure) aboutRate() bool {
	text := f.err.Error()
	code := enhancedCode(f.err)
	switch {
	case grayWords.MatchString(text), code == "4.5.3", code == "4.2.2":
		return false
	}
	policy := strings.HasPrefix(code, "4.7.") && f.stage != stageConnect // there it is about the login, or TLS
	return policy || rateWords.MatchString(text)
}

// alone reports whether a 4xx is about this one mail, and the server works: its address or its
// mailbox (RFC 3463, sections 3.2 and 3.3), its number of recipients, or greylisting, which
// is about a pair of addresses.
func (f *failure) alone() bool {
	code := enhancedCode(f.err)
	return f.code()/100 == 4 && f.code() != 421 && f.stage != stageConnect &&
		(grayWords.MatchString(f.err.Error()) || strings.HasPrefix(code, "4.1.") || strings.HasPrefix(code, "4.2.") || code == "4.5.3")
}

// aboutQuota reports whether a 5xx says that we have sent enough for today:
// 5.4.5 by Google, 5.7.232 and 5.7.233 by Microsoft.
func (f *failure) aboutQuota() bool {
	switch enhancedCode(f.err) {
	case "5.4.5", "5.7.232", "5.7.233":
		return true
	}
	return quotaWords.MatchString(f.err.Error())
}

// enhancedCode is the code by RFC 3463 in a reply, such as "5.1.1", or "".
func enhancedCode(err error) string {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return enhanced.FindString(reply.Msg)
	}
	return ""
}

// fail is the error that Send returns for f.
func (s *Sender) fail(ctx context.Context, m *message, f *failure) *dispatch.Error {
	text := m.hide(dispatch.MaskText(s.withoutLogin(f.err.Error())))
	cause := &cause{text: fmt.Sprintf("%s: %s", f.stage, text)}
	if errors.Is(f.err, dispatch.ErrLate) {
		cause.err = dispatch.ErrLate
	}
	if err := ended(ctx); err != nil && f.code() == 0 {
		cause.err = err
		cause.text = fmt.Sprintf("%s: interrupted: %v", f.stage, err)
	}
	return &dispatch.Error{
		Channel: dispatch.ChannelEmail,
		Kind:    f.kind(),
		Status:  f.code(),
		Code:    enhancedCode(f.err),
		Alone:   f.alone(),
		Err:     cause,
	}
}

// ended is why ctx has ended, or nil. The connection's own deadline is the
// same, and may strike a moment before ctx knows.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return nil
}

// cause is an error of which only the cleaned text is left, and the context's
// own error where that was the reason.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// maxReply is how much of a server's answer is kept as its receipt, in bytes.
const maxReply = 200

// printable makes one line of what a server said and cuts it to limit bytes.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit-len("…")], "") + "…"
	}
	return text
}

// withoutLogin takes the credentials out of a text.
func (s *Sender) withoutLogin(text string) string {
	if s.pass != "" {
		text = strings.ReplaceAll(text, s.pass.Reveal(), hidden)
	}
	if s.user != "" {
		text = strings.ReplaceAll(text, s.user, hidden)
	}
	return text
}
