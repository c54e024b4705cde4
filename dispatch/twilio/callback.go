package twilio

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/twilio/twilio-go/client"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// deliveryParam is the parameter of the callback URL that names the delivery. The SID
// would not do: a callback may come before the answer that has it.
const deliveryParam = "delivery"

// signatureHeader is where Twilio puts the signature of a request.
const signatureHeader = "X-Twilio-Signature"

// ErrSignature says that a request was not signed by Twilio for this account, at this
// URL and with this body.
var ErrSignature = errors.New("no signature of Twilio's for this account and URL")

// callbackPath is what needs no escaping anywhere on the way, so that the path
// that is signed is the path that is asked for.
var callbackPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// CheckCallback reads the URL that Twilio is given for its reports: https, or http to
// this machine, with a path and without a query. It may have a fragment, which
// Twilio keeps for itself: how it connects, such as #rc=3&rp=5xx
// (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides). The
// error says what is accepted, and repeats nothing.
func CheckCallback(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Opaque != "":
	case u.Scheme != "https" && (u.Scheme != "http" || !local(u.Hostname())):
	case !callbackPath.MatchString(u.EscapedPath()) || strings.Contains(u.Path+"/", "/./") || strings.Contains(u.Path+"/", "/../"):
	default:
		return u, nil
	}
	return nil, errors.New("it has to be a URL such as https://hooks.example.com/twilio/status: with https, a path of letters, digits, - _ . and ~, and without a query")
}

func local(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// callbackFor is where Twilio reports on the delivery id.
func (s *Sender) callbackFor(id uuid.UUID) string {
	u := *s.callback
	u.RawQuery = deliveryParam + "=" + id.String()
	return u.String()
}

// CallbackPath is the path of the URL for reports; "" where there is none.
func (s *Sender) CallbackPath() string {
	if s.callback == nil {
		return ""
	}
	return s.callback.Path
}

// ReadCallback reads a report that came with this query, header and body to
// CallbackPath. Its error is ErrSignature where Twilio did not sign it. What it says
// of no delivery, or in words that are none of ours, has those fields empty.
//
// The signature is HMAC-SHA1 under the auth token, in base64, of the URL as Twilio
// has it and the parameters of the form, name after name in order; of any other body
// the URL has its SHA-256 (https://www.twilio.com/docs/usage/security). So the URL is
// ours, with the query that came, and nothing that a proxy says: a request to
// another host or path is signed for that.
//
// The library's validator compares in constant time, and takes a URL with its port
// and without, since Twilio's services differ in it. Of a parameter that is there twice
// it takes the first, as is done here.
func (s *Sender) ReadCallback(query string, header http.Header, body []byte) (dispatch.Report, error) {
	signatures := header.Values(signatureHeader)
	if s.callback == nil || len(signatures) != 1 {
		return dispatch.Report{}, ErrSignature
	}
	u := *s.callback
	u.RawQuery = query
	whole := u.String()
	u.Fragment, u.RawFragment = "", ""
	validator := client.NewRequestValidator(s.token.Reveal())
	// The fragment never leaves Twilio; that it is not signed either is not written
	// down anywhere.
	if !validator.ValidateBody(u.String(), body, signatures[0]) && !validator.ValidateBody(whole, body, signatures[0]) {
		return dispatch.Report{}, ErrSignature
	}
	return readReport(u.Query(), body), nil
}

// The shapes of what is put on record.
var (
	messageSID = regexp.MustCompile(`^[A-Z]{2}[0-9a-fA-F]{32}$`)
	errorCode  = regexp.MustCompile(`^[1-9][0-9]{0,5}$`)
)

// fates are what Twilio's message statuses mean
// (https://www.twilio.com/docs/messaging/api/message-resource#message-status-values).
var fates = map[string]dispatch.Fate{
	"accepted":    dispatch.FateQueued,
	"scheduled":   dispatch.FateQueued,
	"queued":      dispatch.FateQueued,
	"sending":     dispatch.FateQueued,
	"sent":        dispatch.FateSent,
	"canceled":    dispatch.FateCanceled,
	"failed":      dispatch.FateFailed,
	"undelivered": dispatch.FateUndelivered,
	"delivered":   dispatch.FateDelivered,
	"read":        dispatch.FateDelivered,
}

// readReport reads what a callback says.
func readReport(query url.Values, body []byte) (r dispatch.Report) {
	if ids := query[deliveryParam]; len(ids) == 1 && len(ids[0]) == 36 {
		if id, err := uuid.Parse(ids[0]); err == nil {
			r.Delivery = id
		}
	}
	get := fields(body)
	if sid := get("MessageSid"); messageSID.MatchString(sid) {
		r.ProviderID = sid
	}
	r.Fate = fates[get("MessageStatus")]
	if code := get("ErrorCode"); errorCode.MatchString(code) {
		r.Code = code
	}
	return r
}

// fields gives the values of a body by their names: those of a form, which Twilio
// sends, or of a JSON object, which it sends where it is told to.
func fields(body []byte) func(name string) string {
	if len(body) > 0 && body[0] == '{' {
		var object map[string]any
		if json.Unmarshal(body, &object) == nil {
			return func(name string) string {
				switch v := object[name].(type) {
				case string:
					return v
				case float64:
					return fmt.Sprint(v)
				}
				return ""
			}
		}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return func(string) string { return "" }
	}
	return form.Get
}
