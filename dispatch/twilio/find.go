package twilio

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// The list of messages: how much is read of it.
const (
	pageSize  = 500     // messages; Twilio gives at most 1,000
	pageBytes = 8 << 20 // 500 messages of 1,600 characters, and what stands around them
	mostPages = 10
)

// slack is how much earlier than the attempt a message may say that it was created:
// Twilio's times are whole seconds, and its hosts' clocks may differ.
const slack = 5 * time.Second

// Likeness implements dispatch.Reconciler: two messages are told apart by recipient,
// sender and words.
func (s *Sender) Likeness(d *dispatch.Delivery) string {
	sms, _, err := s.message(d)
	if err != nil {
		return ""
	}
	return sms.To + "\n" + sms.From + "\n" + sms.Body
}

// Find implements dispatch.Reconciler by the list of messages to d's recipient from
// its sender. A filter by date would be by the date of sending, which a message
// that is queued does not have yet; and the list is in order of that date. So all of
// it is read, up to mostPages pages.
//
// How long ago a message was created is seen from Twilio's clock alone, so that
// it does not matter whether ours is right.
func (s *Sender) Find(ctx context.Context, d *dispatch.Delivery, since time.Time) (dispatch.Found, error) {
	sms, _, err := s.message(d)
	if err != nil {
		return dispatch.Found{}, rejected(err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	l := lookup{sms: sms, since: since}
	params := new(api.ListMessageParams).SetTo(sms.To).SetFrom(sms.From).SetPageSize(pageSize)
	page, token := "", ""
	for n := 1; ; n++ {
		c := &call{ctx: ctx, sender: s, most: pageBytes}
		list, err := c.service().PageMessage(params, token, page)
		if err == nil && list.Messages == nil {
			err = errors.New("no messages in it, not even none")
		}
		if e := c.unlisted(err); e != nil {
			return dispatch.Found{}, e
		}
		l.page(list.Messages, c.answer.date)
		if list.NextPageUri == nil || *list.NextPageUri == "" {
			return l.found(), nil
		}
		next, err := url.Parse(*list.NextPageUri)
		if err != nil || n == mostPages {
			l.doubt("its list of messages to this number is too long to be read")
			return l.found(), nil
		}
		page, token = next.Query().Get("Page"), next.Query().Get("PageToken")
	}
}

// unlisted is why a call did not bring a page of the list; nil where it did.
func (c *call) unlisted(err error) *dispatch.Error {
	switch {
	case c.failed != nil:
		return c.failed
	case c.answer == nil:
		return &dispatch.Error{Channel: dispatch.ChannelSMS, Kind: dispatch.Down, Err: errors.New("the library made no request")}
	case c.answer.status < 200 || c.answer.status > 299:
		e := *c.answer
		e.configured = true // nothing is at fault but the configuration
		return e.failure()
	case err != nil || c.answer.partial:
		return &dispatch.Error{
			Channel: dispatch.ChannelSMS, Kind: dispatch.Down, Status: c.answer.status,
			Err: errors.New("its list of messages could not be read"),
		}
	}
	return nil
}

// lookup compares what is listed with one message.
type lookup struct {
	sms    dispatch.SMS
	since  time.Time // on our clock
	alike  []listed
	doubts string
}

type listed struct {
	sid     string
	created time.Time
}

// page looks at messages that were listed when it was now on Twilio's clock; zero
// where it did not say, and ours has to do.
func (l *lookup) page(messages []api.ApiV2010Message, now time.Time) {
	ours := time.Now()
	if now.IsZero() {
		now = ours
	}
	earliest := now.Add(-ours.Sub(l.since) - slack)
	for _, m := range messages {
		sid, body := text(m.Sid), text(m.Body)
		created, err := time.Parse(time.RFC1123Z, text(m.DateCreated))
		switch {
		case sid == "" || strings.HasPrefix(text(m.Direction), "inbound"):
		case err == nil && created.Before(earliest):
		case text(m.To) != "" && text(m.To) != l.sms.To || text(m.From) != "" && text(m.From) != l.sms.From:
			// Not what was asked for: Twilio hides numbers where it is told to.
			if hidden(text(m.To)) || hidden(text(m.From)) {
				l.doubt("it hides numbers")
			}
		case body != l.sms.Body:
			l.doubtWords(body)
		case err != nil:
			l.doubt("it does not say when it took a message with the same words")
		case !slices.ContainsFunc(l.alike, func(a listed) bool { return a.sid == sid }): // pages may overlap
			l.alike = append(l.alike, listed{sid, created})
		}
	}
}

// doubtWords notes where body may have been made of our words by Twilio: it puts a
// line before those of trial accounts, replaces characters to save segments ("smart
// encoding"), and hides words where it is told to ("message redaction").
func (l *lookup) doubtWords(body string) {
	switch {
	case hidden(body):
		l.doubt("it hides the words of its messages")
	case strings.HasSuffix(body, strings.TrimSpace(l.sms.Body)):
		l.doubt("it has a message with the same words after others, as trial accounts have")
	case strings.HasSuffix(skeleton(body), skeleton(l.sms.Body)):
		l.doubt("it has a message with almost the same words")
	}
}

func (l *lookup) doubt(why string) {
	if l.doubts == "" {
		l.doubts = why
	}
}

func (l *lookup) found() dispatch.Found {
	slices.SortStableFunc(l.alike, func(a, b listed) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.sid, b.sid)
	})
	f := dispatch.Found{Doubt: l.doubts}
	for _, a := range l.alike {
		f.Alike = append(f.Alike, dispatch.Receipt{ProviderID: a.sid})
	}
	return f
}

// hidden reports whether s says nothing, or stands for something that was taken
// out.
func hidden(s string) bool {
	return strings.Trim(s, " *") == "" || strings.Contains(s, "XXX") || strings.Contains(s, "***")
}

// skeleton is what no replacement of characters touches: the letters and digits of
// ASCII, or where there are none, of all scripts.
func skeleton(s string) string {
	pick := func(all bool) string {
		return strings.Map(func(r rune) rune {
			if (unicode.IsLetter(r) || unicode.IsDigit(r)) && (all || r < unicode.MaxASCII) {
				return unicode.ToLower(r)
			}
			return -1
		}, s)
	}
	if ascii := pick(false); ascii != "" {
		return ascii
	}
	if letters := pick(true); letters != "" {
		return letters
	}
	return fmt.Sprintf("%q", s)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
