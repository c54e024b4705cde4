package openai

import (
	"context"
	"errors"
	"net/http"

	api "github.com/sashabaranov/go-openai"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// call is one request, as the client that the library makes it through. The
// library's own has no timeout, reads replies of any size, takes a redirect
// for a success, and repeats replies in its errors.
type call struct {
	client *Client

	// What came of it, where a request was made: one of the two.
	res    *httpsend.Response
	failed *dispatch.Error
}

var _ api.HTTPDoer = (*call)(nil)

var errFailed = errors.New("openai: the call failed") // its reason is in the call

// Do sends req, once.
func (c *call) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", c.client.userAgent)
	res, e := httpsend.Do(c.client.http, dispatch.ChannelOpenAI, req, maxBody)
	if e != nil {
		c.failed = e
		return nil, errFailed
	}
	c.res = res
	return res.HTTP(req), nil
}

// ask makes one request and reads the answer. A plain one is for servers that
// refused part of the other; once one of those has worked, the model's requests
// are all plain.
func (c *Client) ask(ctx context.Context, q question, plain bool) (*reply, *failure) {
	if _, known := c.plain.Load(q.model); known {
		plain = true
	}
	call := &call{client: c}
	config := api.DefaultConfig(c.key.Reveal())
	config.BaseURL = c.base
	config.HTTPClient = call
	completion, err := api.NewClientWithConfig(config).CreateChatCompletion(ctx, q.request(plain))
	switch {
	case call.failed != nil:
		return nil, unanswered(ctx, call.failed)
	case call.res == nil:
		// The library knows the model as one of old, or the parameters as none of it.
		return nil, &failure{reason: "not a model for this", kind: dispatch.Rejected}
	case call.res.Status < 200 || call.res.Status > 299:
		return nil, refused(call.res, q.own, plain, c.now())
	case call.res.Partial && ctx.Err() != nil:
		return nil, unanswered(ctx, &dispatch.Error{Kind: dispatch.Unknown, Status: call.res.Status})
	case call.res.Partial && len(call.res.Body) == maxBody:
		return nil, &failure{reason: "too large an answer", kind: dispatch.Rejected, status: call.res.Status}
	case call.res.Partial || err != nil:
		return nil, broken(call.res.Status)
	}
	r, f := read(completion, q.fields)
	if f != nil {
		f.status = call.res.Status
		return nil, f
	}
	failpoint.Hit("K15")
	r.status = call.res.Status
	if plain {
		c.plain.Store(q.model, true)
	}
	return r, nil
}
