package openai

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Destination implements dispatch.Addressed: where the API is.
func (c *Client) Destination(*dispatch.Delivery) string {
	if c == nil {
		return ""
	}
	return httpsend.Destination(c.base)
}

// Send asks the prompt and returns the answer: an object with a text for each
// of its fields. An error is a *dispatch.Error; see refused for what statuses
// mean. A ctx without a deadline gets that of Policy.
//
// A refusal, and an answer that is cut off, are Rejected, since the same prompt
// leads there again. An answer that cannot be read, or that does not keep the
// prompt's limits, is Down: the next one may be better.
func (c *Client) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	if c == nil {
		return dispatch.Receipt{}, failed(&failure{reason: "not configured", kind: dispatch.Down})
	}
	p, err := dispatch.ReadContent[dispatch.Prompt](&d.Message)
	if err == nil {
		err = p.Validate()
	}
	if err != nil {
		return dispatch.Receipt{}, failed(&failure{reason: err.Error(), kind: dispatch.Rejected})
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	q := promptQuestion(p, c.model)
	r, f := c.ask(ctx, q, false)
	if f != nil && f.simpler {
		r, f = c.ask(ctx, q, true)
	}
	if f != nil {
		return dispatch.Receipt{}, failed(f)
	}

	answer := make(map[string]string, len(q.fields))
	for _, field := range q.fields {
		w := new(Rules).Check(field, r.texts[field.Name])
		if w.Fallback != "" {
			return dispatch.Receipt{}, failed(&failure{
				reason: fmt.Sprintf("the field %s: %s", field.Name, w.Fallback), kind: dispatch.Down, status: r.status,
			})
		}
		answer[field.Name] = w.Text
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return dispatch.Receipt{}, failed(broken(r.status)) // strings: it does not happen
	}
	receipt := dispatch.Receipt{Status: r.status, Answer: raw}
	if len(r.id) <= 100 && visible(r.id) {
		receipt.ProviderID = r.id
	}
	return receipt, nil
}

// failed is f as the retry policy takes it.
func failed(f *failure) *dispatch.Error {
	return &dispatch.Error{
		Channel: dispatch.ChannelOpenAI, Kind: f.kind, Status: f.status, Code: f.code, RetryAfter: f.wait,
		Err: f,
	}
}
