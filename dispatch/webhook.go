package dispatch

import (
	"errors"
	"fmt"
)

// ownWebhookHeaders are the headers that the sender or the connection sets. The
// two idempotency headers are among them because webhook-id says the same.
var ownWebhookHeaders = append([]string{"idempotency-key", "x-idempotency-key"}, connectionHeaders...)

// ownWebhookPrefixes begin the names of more of them.
var ownWebhookPrefixes = []string{"webhook-", "proxy-"}

// Validate reports what keeps w from being sent, in a sentence that names the
// key and what is accepted, and that has nothing of the content in it.
//
// It does not look the host up: which addresses may be called is decided when
// the connection is made.
func (w Webhook) Validate() error {
	if err := validURL(w.URL, `"headers"`); err != nil {
		return fmt.Errorf(`the key "url" %w`, err)
	}
	if w.Body == "" {
		return errors.New(`the key "body" is empty; it has to be the text or JSON value to send`)
	}
	return validHTTPHeaders(w.Headers, ownWebhookHeaders, ownWebhookPrefixes)
}
