// Package twilio delivers SMS through Twilio's Messages resource.
package twilio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	api "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Policy is how SMS are handled around the moment of sending. Twilio has no
// key that makes it drop a repeated message, and a second SMS cannot be taken
// back: where no clear answer came, Twilio is asked whether it has the message, and
// where it does not, a person decides.
var Policy = dispatch.Policy{
	Announce: true, OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Hold, Provider: true, Concurrency: httpsend.MaxConns, Timeout: 15 * time.Second,
}

// DefaultBaseURL is where Twilio's API is.
const DefaultBaseURL = "https://api.twilio.com"

// Config says which account sends.
type Config struct {
	AccountSID string          // required
	AuthToken  dispatch.Secret // required
	From       string          // number or sender id of messages that name none; "" leaves those to fail
	BaseURL    string          // TWILIO_API_BASE_URL; "" means DefaultBaseURL. A path in it is kept

	// Callback is the URL at which Twilio reports what becomes of a message; see
	// CheckCallback. "" asks for no reports.
	Callback string

	// HTTPClient makes the requests; nil means one that uses no proxy. Its
	// redirect policy and its cookies are not used: redirects are never followed.
	HTTPClient *http.Client

	// Now gives the time that a Retry-After is held against which is a date, where an answer
	// has no Date. nil means time.Now.
	Now func() time.Time
}

// Sender is the sender of dispatch.ChannelSMS.
type Sender struct {
	account  string
	token    dispatch.Secret
	from     string
	base     *url.URL
	callback *url.URL // nil: none
	client   *http.Client
	now      func() time.Time
}

var _ dispatch.Reconciler = (*Sender)(nil)

// accountSID is what may stand in the URL's path as it is.
var accountSID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// New returns a Sender. Its error names the variable that has to be mended,
// and never the token.
func New(c Config) (*Sender, error) {
	if !accountSID.MatchString(c.AccountSID) {
		return nil, fmt.Errorf("TWILIO_ACCOUNT_SID: %q is not an account; letters, digits, - and _ are accepted", c.AccountSID)
	}
	if c.AuthToken == "" {
		return nil, errors.New("TWILIO_AUTH_TOKEN: is empty")
	}
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	base, err := url.Parse(strings.TrimRight(c.BaseURL, "/"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("TWILIO_API_BASE_URL: it has to be a URL such as " + DefaultBaseURL + ", without credentials or a query")
	}
	var callback *url.URL
	if c.Callback != "" {
		if callback, err = CheckCallback(c.Callback); err != nil {
			return nil, fmt.Errorf("OUTBOX_TWILIO_CALLBACK_URL: %w", err)
		}
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{Transport: httpsend.NewTransport(nil)}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Sender{account: c.AccountSID, token: c.AuthToken, from: c.From, base: base, callback: callback, client: c.HTTPClient, now: c.Now}, nil
}

// Destination implements dispatch.Addressed: the account, and where its API is.
func (s *Sender) Destination(*dispatch.Delivery) string {
	return strings.ToLower(s.base.Host) + " " + s.account
}

// RateKey implements dispatch.Metered: the sender's number, since that is what
// carriers and Twilio count by.
func (s *Sender) RateKey(d *dispatch.Delivery) string {
	sms, _, err := s.message(d)
	if err != nil {
		return "" // it is refused
	}
	return sms.From
}

// Send creates the message and returns its SID, and as Answer its encoding and
// number of segments: {"encoding":"GSM-7","segments":1}. An error is a
// *dispatch.Error; see answer.kind for what Twilio's answers mean. A ctx
// without a deadline gets that of Policy.
func (s *Sender) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	sms, configured, err := s.message(d)
	if err != nil {
		return dispatch.Receipt{}, rejected(err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	c := &call{ctx: ctx, sender: s}
	params := new(api.CreateMessageParams).SetTo(sms.To).SetFrom(sms.From).SetBody(sms.Body)
	if s.callback != nil {
		params.SetStatusCallback(s.callbackFor(d.ID))
	}
	message, err := c.service().CreateMessage(params)
	switch {
	case c.failed != nil:
		return dispatch.Receipt{}, c.failed
	case c.answer == nil:
		return dispatch.Receipt{}, &dispatch.Error{
			Channel: dispatch.ChannelSMS, Kind: dispatch.Down, Err: errors.New("the library made no request"),
		}
	}
	a := *c.answer
	a.configured = configured
	if err == nil && message.Sid != nil && *message.Sid != "" {
		a.sid = *message.Sid
	}
	if e := a.failure(); e != nil {
		return dispatch.Receipt{}, e
	}
	return dispatch.Receipt{ProviderID: a.sid, Status: a.status, Answer: size(sms.Body)}, nil
}

// size says how the text goes out and in how many messages, as which it is
// billed. Twilio's own count is not there yet when it answers, where a messaging
// service chooses the sender.
func size(body string) json.RawMessage {
	encoding, _, segments := dispatch.Segments(body)
	return fmt.Appendf(nil, `{"encoding":%q,"segments":%d}`, encoding, segments)
}

// message is what d says, with its sender; configured where that is the one of
// Config.
func (s *Sender) message(d *dispatch.Delivery) (sms dispatch.SMS, configured bool, err error) {
	if sms, err = dispatch.ReadContent[dispatch.SMS](&d.Message); err != nil {
		return sms, false, err
	}
	if err := sms.Validate(); err != nil {
		return sms, false, err
	}
	if configured = sms.From == ""; configured {
		sms.From = s.from
	}
	if sms.From == "" {
		return sms, configured, errors.New("the SMS names no sender, and TWILIO_FROM is not set")
	}
	return sms, configured, nil
}

func rejected(err error) *dispatch.Error {
	return &dispatch.Error{Channel: dispatch.ChannelSMS, Kind: dispatch.Rejected, Err: err}
}
