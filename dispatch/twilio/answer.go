package twilio

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// answer is what Twilio said to a request.
type answer struct {
	status     int
	code       int    // Twilio's error code; 0 when it gave none
	sid        string // of the message it created; "" when it named none
	retryAfter time.Duration
	configured bool      // the message's sender came from the configuration
	partial    bool      // not all of it was read
	date       time.Time // on Twilio's clock; zero when it named none
}

// Error codes with a meaning beyond their status, by
// https://www.twilio.com/docs/api/errors/<code>. Twilio adds codes and asks
// not to build on them, so that all of this is about 4xx only, and a code
// that is not here means what its status means.
const (
	codeTooManyRequests  = 20429 // "aren't processed and are safe to retry"
	codeQueueFull        = 21611 // the sender has more than ten hours of messages waiting
	codeTooFast          = 63017 // the account sends too many messages per second
	codeDailyLimit       = 63038 // the account has sent enough for today
	codeFromRequired     = 21603
	codeFromInvalid      = 21212
	codeFromNotCapable   = 21606
	codeFromNotTwilio    = 21659
	codeFromNotOurs      = 21660
	codeFromNotSMS       = 21661
	codeInvalidTo        = 21211
	codeNoRoute          = 21612
	codeNoPermission     = 21408 // for the recipient's region
	codeUnverifiedTo     = 21608 // trial accounts
	codeOptedOut         = 21610
	codeNotMobile        = 21614
	codeBodyTooLong      = 21617
	codeLandline         = 21635
	codeShortCode        = 21265
	codeToAndFromSame    = 21266
	codeAuthenticate     = 20003
	codeAccountNotActive = 20005
	codeNotFound         = 20404
)

// kind says what follows from an answer; "" means that the message was taken.
//
//	2xx with a SID          taken
//	2xx without one         Unknown: it says created, and not what
//	429, and the throttles  Throttled: never processed
//	the sender's codes      Down where the sender is the configured one, which
//	                        is wrong for all messages alike; else Rejected
//	400, 405 to 499         Rejected: it will not like the message any better
//	                        (21211, 21408, 21610, 21612, 21614, 21617, …)
//	401, 403, 404           Down: credentials, account or base URL are wrong;
//	                        the resource is there for each account. An operator
//	                        mends that, and no message should die for it
//	408                     Down: the request did not arrive whole
//	3xx                     Down: Twilio does not redirect, so that something
//	                        else is answering, and it took nothing
//	5xx, anything else      Unknown: a creation may have gone through before
//	                        the failure, and nothing says that it has not
func (a answer) kind() dispatch.Kind {
	switch {
	case a.status >= 200 && a.status <= 299:
		if a.sid == "" {
			return dispatch.Unknown
		}
		return ""
	case a.status >= 300 && a.status <= 399:
		return dispatch.Down
	case a.status < 400 || a.status > 499:
		return dispatch.Unknown
	}
	switch a.code {
	case codeTooManyRequests, codeQueueFull, codeTooFast, codeDailyLimit:
		return dispatch.Throttled
	case codeFromRequired, codeFromInvalid, codeFromNotCapable, codeFromNotTwilio, codeFromNotOurs, codeFromNotSMS:
		if a.configured {
			return dispatch.Down
		}
		return dispatch.Rejected
	case codeInvalidTo, codeNoRoute, codeNoPermission, codeUnverifiedTo, codeOptedOut, codeNotMobile,
		codeBodyTooLong, codeLandline, codeShortCode, codeToAndFromSame:
		return dispatch.Rejected // also where it comes as a 403
	case codeAuthenticate, codeAccountNotActive:
		return dispatch.Down // also where it comes as a 400
	}
	switch a.status {
	case http.StatusTooManyRequests:
		return dispatch.Throttled
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout:
		return dispatch.Down
	}
	return dispatch.Rejected
}

// meanings are the codes in words. Twilio's own words repeat the number that
// the message was for.
var meanings = map[int]string{
	codeTooManyRequests:  "too many requests at a time",
	codeQueueFull:        "the sender's queue at Twilio is full",
	codeTooFast:          "the account sends too fast",
	codeDailyLimit:       "the account's daily limit is reached",
	codeFromRequired:     "a sender is required",
	codeFromInvalid:      "the sender is not a valid number",
	codeFromNotCapable:   "the sender cannot send to this recipient",
	codeFromNotTwilio:    "the sender is not a number at Twilio",
	codeFromNotOurs:      "the sender belongs to another account",
	codeFromNotSMS:       "the sender cannot send SMS",
	codeInvalidTo:        "the recipient is not a valid number",
	codeNoRoute:          "there is no route from this sender to the recipient",
	codeNoPermission:     "the account may not send to the recipient's region",
	codeUnverifiedTo:     "a trial account may only send to verified numbers",
	codeOptedOut:         "the recipient has opted out",
	codeNotMobile:        "the recipient's number cannot receive SMS",
	codeBodyTooLong:      "the text is too long",
	codeLandline:         "the recipient's number is a landline",
	codeShortCode:        "the recipient's number is a short code",
	codeToAndFromSame:    "sender and recipient are the same",
	codeAuthenticate:     "the credentials are wrong",
	codeAccountNotActive: "the account is not active",
	codeNotFound:         "no such account at this base URL",
}

// failure is the error for an answer, or nil where the message was taken.
func (a answer) failure() *dispatch.Error {
	kind := a.kind()
	if kind == "" {
		return nil
	}
	e := &dispatch.Error{Channel: dispatch.ChannelSMS, Kind: kind, Status: a.status, Err: errors.New(a.meaning())}
	if a.code != 0 {
		e.Code = strconv.Itoa(a.code)
	}
	if kind != dispatch.Rejected { // a 503 leaves open what became of the message, and may say when to come back
		e.RetryAfter = a.retryAfter
	}
	return e
}

func (a answer) meaning() string {
	if text := meanings[a.code]; text != "" {
		return text
	}
	switch {
	case a.status >= 200 && a.status <= 299:
		return "Twilio says that it took the message, without its SID"
	case a.status >= 300 && a.status <= 399:
		return "a redirect, which Twilio does not send: check TWILIO_API_BASE_URL"
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return "the credentials were refused"
	case a.status == http.StatusNotFound:
		return "no such account at this base URL"
	}
	if text := http.StatusText(a.status); text != "" {
		return text
	}
	return "an unusual answer"
}
