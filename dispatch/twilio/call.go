package twilio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// call is one call of Twilio's library, as the client that the library calls
// through. The library's own client knows no context, leaves the bodies of
// failures open, takes a redirect for a success, drops Retry-After and
// refuses credentials that are not alphanumeric.
type call struct {
	ctx    context.Context
	sender *Sender
	most   int64 // bytes of the answer that are read; 0 means httpsend.DefaultMaxBody

	// What came of it, where a request was made: one of the two.
	answer *answer
	failed *dispatch.Error
}

var _ client.BaseClient = (*call)(nil)

// service is the library's, with a handler made here, since its own takes
// TWILIO_EDGE and TWILIO_REGION from the environment.
func (c *call) service() *api.ApiService {
	return api.NewApiService(&client.RequestHandler{Client: c})
}

var errFailed = errors.New("twilio: the call failed") // its reason is in the call

// AccountSid is the account in the path of the request.
func (c *call) AccountSid() string { return c.sender.account }

// SetTimeout does nothing: the context has the last word.
func (c *call) SetTimeout(time.Duration) {}

// SetOauth does nothing: the account's token is used.
func (c *call) SetOauth(client.OAuth) {}

// OAuth returns nil; see SetOauth.
func (c *call) OAuth() client.OAuth { return nil }

// SendRequest sends the form, once: as the query of a GET, or else as the body. Of
// rawURL only the path counts, since the library knows one host.
func (c *call) SendRequest(method, rawURL string, data url.Values, headers map[string]any, _ ...byte) (*http.Response, error) {
	from, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	to, body := c.sender.base.JoinPath(from.Path), data.Encode()
	if method == http.MethodGet {
		to.RawQuery, body = body, ""
	}
	req, err := http.NewRequestWithContext(c.ctx, method, to.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		if text, ok := value.(string); ok {
			req.Header.Set(name, text)
		}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "outbox-listener")
	req.SetBasicAuth(c.sender.account, c.sender.token.Reveal())

	res, e := httpsend.Do(c.sender.client, dispatch.ChannelSMS, req, c.most)
	if e != nil {
		c.failed = e
		return nil, errFailed
	}
	c.answer = &answer{status: res.Status, retryAfter: httpsend.RetryAfter(res.Header, c.sender.now()), partial: res.Partial}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.answer.date = at
	}
	if res.Status < 200 || res.Status > 299 {
		var problem struct {
			Code int `json:"code"`
		}
		if json.Unmarshal(res.Body, &problem) == nil {
			c.answer.code = problem.Code
		}
		return nil, errFailed
	}
	// The library reads the SID too, but gives it up when any other field has
	// a type that it does not expect. The message exists all the same.
	var created struct {
		SID string `json:"sid"`
	}
	if json.Unmarshal(res.Body, &created) == nil {
		c.answer.sid = created.SID
	}
	return res.HTTP(req), nil
}
