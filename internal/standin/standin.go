// Package standin plays the providers on loopback addresses: it takes what a
// real one would take, remembers it, and can be told to misbehave. The dev
// command and the tests send to it.
package standin

import (
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Received is one message that a stand-in accepted.
type Received struct {
	Channel   dispatch.Channel
	ID        string            // the provider's view of it: webhook-id, Message-ID or Twilio SID
	Recipient string            // number or address; for a webhook its path and query
	Body      string            // as it came
	Headers   map[string]string // of a webhook, without those of the connection; nil on other channels
	At        time.Time
}
