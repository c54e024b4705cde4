package dispatch

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Message is one step of what an event becomes: content for one recipient on
// one channel, rendered once. Exactly one of three things holds: it can be
// sent, or Skip says why nothing is to be sent, or Refused says why it can
// never be sent.
type Message struct {
	Route     string          // the route that asked for it; "direct" for a direct event, "" when no route matched
	Step      string          // its name within the route; with Route and Recipient it identifies the delivery
	Channel   Channel         // "" when no route matched
	Recipient string          // number, address or URL; "" on channels that have none
	Content   json.RawMessage // an encoded SMS, Email, Webhook, …; frozen: every attempt sends exactly this

	Skip    string // why there is nothing to send, for people; "" otherwise
	Refused string // why it can never be sent, for people; "" otherwise

	made made
}

// made is what the content of a message was encoded from, as long as it is
// still that content.
type made struct {
	from    any
	content json.RawMessage
}

// known reports whether m still has the content that was made for it, so that
// it is JSON, and made.from says what.
func (m *Message) known() bool {
	n := len(m.made.content)
	return n > 0 && n == len(m.Content) && &m.Content[0] == &m.made.content[0]
}

// ReadContent decodes the content of m, which is T's where the channel is: SMS,
// Email, Webhook. Its error repeats nothing of the content.
func ReadContent[T SMS | Email | Webhook](m *Message) (T, error) {
	if v, ok := m.made.from.(T); ok && m.known() {
		return v, nil
	}
	var v T
	if json.Unmarshal(m.Content, &v) != nil {
		return v, fmt.Errorf("the content is not that of the channel %s", m.Channel)
	}
	return v, nil
}

// Delivery is one Message on its way: the same ID on each attempt.
type Delivery struct {
	ID      uuid.UUID // the idempotency key: webhook-id, Message-ID
	EventID uuid.UUID
	Type    string    // the event's type
	Date    time.Time // the event's created_at; frozen, so that each attempt looks the same
	Attempt int       // 1 on the first attempt
	Message
}
