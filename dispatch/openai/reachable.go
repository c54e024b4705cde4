package openai

import (
	"context"
	"fmt"
	"slices"

	api "github.com/sashabaranov/go-openai"
)

// Check asks for the list of models, which costs nothing, and looks for the one
// that is configured. Its error names the variable that has to be mended, and
// never the key. A ctx without a deadline gets that of Policy.
func (c *Client) Check(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	call := &call{client: c}
	config := api.DefaultConfig(c.key.Reveal())
	config.BaseURL = c.base
	config.HTTPClient = call
	list, err := api.NewClientWithConfig(config).ListModels(ctx)
	if call.failed != nil {
		return fmt.Errorf("OPENAI_BASE_URL: %w", call.failed.Err)
	}
	if call.res == nil {
		return fmt.Errorf("OPENAI_BASE_URL: the library made no request")
	}
	if s := call.res.Status; s < 200 || s > 299 {
		f := refused(call.res, false, true, c.now())
		switch {
		case s == 401, s == 402, s == 403, f.reason == noQuota:
			return fmt.Errorf("OPENAI_API_KEY: %s", f.reason)
		case s == 404:
			return fmt.Errorf("OPENAI_BASE_URL: there is no list of models at this address (404)")
		}
		return fmt.Errorf("OPENAI_BASE_URL: %s", f.reason)
	}
	switch {
	case call.res.Partial: // a list that is too long to be read; the key is good
		return nil
	case err != nil || len(list.Models) == 0:
		return fmt.Errorf("OPENAI_BASE_URL: what answers there gives no list of models")
	case !slices.ContainsFunc(list.Models, func(m api.Model) bool { return m.ID == c.model }):
		return fmt.Errorf("OPENAI_MODEL: the server does not list a model %q", c.model)
	}
	return nil
}
