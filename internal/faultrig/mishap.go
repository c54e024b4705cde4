//go:build unix

package faultrig

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// mishap is what a provider does wrong with one request.
type mishap string

const (
	cutAfter    mishap = "takes it and hangs up"
	broken      mishap = "answers 503, or 451 to an e-mail, and takes nothing"
	closed      mishap = "answers 503 with Retry-After: 1" // a request alone, and a webhook that must not be sent twice
	brokenTaken mishap = "answers 503 and takes it"        // these, and an SMS
	failedTaken mishap = "answers 502 and takes it"        // these, but no SMS
	throttled   mishap = "answers 429, or 450 to an e-mail"
)

// retryAfter is the Retry-After of one 429 of four, in seconds. SMTP has none.
const retryAfter = 3

// takes says whether what was spoiled was taken all the same.
func (m mishap) takes() bool { return m == cutAfter || m == brokenTaken || m == failedTaken }

// mishap decides about a request for an event. It depends on the seed and on
// how many requests for that event came, and on nothing else. once says that it must not
// be sent twice. The header belongs to its answer.
func (l *ledger) mishap(channel, event string, once bool) (m mishap, header http.Header) {
	l.mu.Lock()
	l.seen[channel+event]++
	n := l.seen[channel+event]
	l.mu.Unlock()
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %d", l.seed, channel, event, n))
	wait := 0
	switch binary.BigEndian.Uint16(sum[:]) % 100 {
	case 0, 1:
		m = cutAfter
	case 2, 3:
		m = broken
		if once && sum[2]%2 == 0 {
			m, header = closed, http.Header{"Retry-After": {"1"}}
		}
	case 4, 5:
		m = throttled
		if sum[2]%4 == 0 && channel != "email" {
			wait = retryAfter
			header = http.Header{"Retry-After": {strconv.Itoa(wait)}}
		}
	case 6:
		switch {
		case channel == "sms", once && sum[2]%2 == 0:
			m = brokenTaken
		case once:
			m = failedTaken
		default:
			return "", nil
		}
	default:
		return "", nil
	}
	l.write(Line{At: time.Now(), Channel: channel, Event: event, Fault: string(m), Wait: wait})
	return m, header
}

// answer is what a receiver of webhooks or requests does.
func (l *ledger) answer(channel string) func(int, *http.Request) standin.HTTPReply {
	return func(_ int, r *http.Request) standin.HTTPReply {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return standin.HTTPReply{Status: http.StatusBadRequest}
		}
		once := channel == "http" || bytes.Contains(body, []byte(`"once"`))
		switch m, header := l.mishap(channel, eventIn(string(body)), once); m {
		case cutAfter:
			return standin.HTTPReply{CutAfter: true}
		case broken, closed:
			return standin.HTTPReply{Status: http.StatusServiceUnavailable, Header: header}
		case brokenTaken:
			return standin.HTTPReply{Status: http.StatusServiceUnavailable, Taken: true}
		case failedTaken:
			return standin.HTTPReply{Status: http.StatusBadGateway, Taken: true}
		case throttled:
			return standin.HTTPReply{Status: http.StatusTooManyRequests, Header: header}
		}
		return standin.HTTPReply{}
	}
}

// mailed is what the mail server does with a message.
func (l *ledger) mailed(r standin.Received) standin.SMTPReply {
	switch m, _ := l.mishap("email", eventIn(r.Body), false); m {
	case cutAfter:
		return standin.SMTPReply{CutAfter: true}
	case broken:
		return standin.SMTPReply{Code: 451, Enhanced: [3]int{4, 3, 0}}
	case throttled:
		return standin.SMTPReply{Code: 450, Enhanced: [3]int{4, 7, 1}}
	}
	return standin.SMTPReply{}
}

// listed is what Twilio does with the nth request for its list: it lags behind by
// half a second, and of ten requests it refuses one.
func listed(n int, _ *http.Request) standin.TwilioList {
	switch n % 20 {
	case 3:
		return standin.TwilioList{Status: http.StatusServiceUnavailable}
	case 13:
		return standin.TwilioList{Cut: true}
	}
	return standin.TwilioList{After: 500 * time.Millisecond}
}
