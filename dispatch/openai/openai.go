// Package openai asks a model for words, by OpenAI's chat completions or those
// of any server that speaks the same: copy for the fields of a message, which
// is checked before it is used, and the answers of ChannelOpenAI.
package openai

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Policy is how prompts are handled around the moment of sending. Asking twice
// costs money and nothing else, so that it needs no announcement.
var Policy = dispatch.Policy{OnUnknown: dispatch.Resend, Provider: true, Concurrency: httpsend.MaxConns, Timeout: time.Minute}

// What holds where the configuration says nothing.
const (
	DefaultBaseURL = "https://api.openai.com/v1"
	DefaultModel   = "gpt-5-mini"
)

// Limits on what is read.
const (
	maxBody   = 256 << 10 // bytes of a reply, with the reasoning that some servers show
	maxAnswer = 64 << 10  // bytes of the model's own text
)

// Config says who is asked.
type Config struct {
	Key       dispatch.Secret // required
	Model     string          // of asks that name none; "" means DefaultModel
	BaseURL   string          // the API's address with its version, as DefaultBaseURL, which "" means
	UserAgent string          // "" means outbox-listener

	// HTTPClient makes the requests; nil means one that uses no proxy. Its
	// redirect policy and its cookies are not used: redirects are never followed.
	HTTPClient *http.Client

	// Now gives the time that a Retry-After is held against which is a date, where an answer
	// has no Date. nil means time.Now.
	Now func() time.Time
}

// Client asks one server. It may be used by many goroutines at once. A nil
// Client is one that is not configured: Write gives every field its fallback.
type Client struct {
	key       dispatch.Secret
	model     string
	base      string
	userAgent string
	http      *http.Client
	now       func() time.Time
	circuit   *gobreaker.CircuitBreaker[*reply]

	// plain has the models that took a request only without what not every
	// server knows; see question.request.
	plain sync.Map
}

var _ dispatch.Sender = (*Client)(nil)

// New returns a Client. Its error names the variable that has to be mended,
// and never the key.
func New(c Config) (*Client, error) {
	key := c.Key.Reveal()
	switch {
	case key == "":
		return nil, errors.New("OPENAI_API_KEY: is empty")
	case !visible(key):
		return nil, errors.New("OPENAI_API_KEY: has a blank, a control character or a letter outside ASCII in it")
	case !visible(c.Model) || len(c.Model) > 200:
		return nil, errors.New("OPENAI_MODEL: it has to be the name of a model, such as " + DefaultModel)
	}
	base := strings.TrimRight(cmp.Or(c.BaseURL, DefaultBaseURL), "/")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("OPENAI_BASE_URL: it has to be a URL such as " + DefaultBaseURL + ", without credentials or a query")
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{Transport: httpsend.NewTransport(nil)}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{
		key:       c.Key,
		model:     cmp.Or(c.Model, DefaultModel),
		base:      base,
		userAgent: cmp.Or(c.UserAgent, "outbox-listener"),
		http:      c.HTTPClient,
		now:       c.Now,
		circuit:   newCircuit(),
	}, nil
}

// visible reports whether s has nothing in it but the visible part of ASCII.
func visible(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
