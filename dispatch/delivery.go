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
	Step      string          // its name within the route; with Route, Recipient and Item it identifies the delivery
	Channel   Channel         // "" when no route matched
	Recipient string          // number, address or URL; "" on channels that have none
	Item      string          // tells the deliveries of one step apart where it has one for each item of a list; "" otherwise
	Content   json.RawMessage // an encoded SMS, Email, Webhook, …; frozen: every attempt sends exactly this

	Skip    string // why there is nothing to send, for people; "" otherwise
	Refused string // why it can never be sent, for people; "" otherwise

	Terms *Terms // what its route says beside; nil: nothing

	made made
}

// Terms are what a route says about a delivery beside what is sent. The zero
// value holds nothing back: it is sent at once, and what its channel says holds.
type Terms struct {
	// Freeze commits the delivery with its content before anything is sent, so
	// that whoever goes on after a crash sends the same bytes. Plans that may
	// turn out differently the next time have to set it.
	Freeze bool

	At       time.Time // not before; zero: at once
	Deadline time.Time // not after: then it is expired; zero: none
	Late     string    // why it is expired already when it is planned, for people; "" otherwise
	Optional bool      // its event is processed without it
	Retry    Retries

	// Supersedes is a business key, such as an appointment's id: of all
	// deliveries of one step with the same key only those of the newest event
	// are sent. What is left of older ones is canceled. "" means none.
	Supersedes string

	// Ordering is a key, such as a customer's id: deliveries of different events
	// with the same key are sent one after the other, in order of the events' seq. Those
	// of one event are not ordered among themselves. It goes with Freeze, and not with
	// At. "" means no order.
	Ordering string

	// After names the steps of the same route that have to be delivered first.
	// Until then the message has no content but Scope, from which its router
	// renders it. It is skipped when one of them ends in another way.
	After []string
	Scope json.RawMessage

	// InsteadOf names the step of the same route that the message is for the failure of:
	// it is sent where that one is known not to have arrived, and else never; see
	// Standing. Its event is processed without it. "" means none.
	InsteadOf string

	// Copy says, for people, where words came from that a model was asked for:
	// "sms: ai, subject: fallback (too long)". "" where none was.
	Copy string
}

// Retries say how often and how soon a delivery is tried again. Zero values
// mean what holds for all.
type Retries struct {
	Attempts  int           `json:"attempts,omitempty"`     // at most, the first included
	First     time.Duration `json:"first,omitempty"`        // the longest wait after the first attempt; it triples with each
	Longest   time.Duration `json:"longest,omitempty"`      // the longest wait of all
	OnUnknown OnUnknown     `json:"on_uncertain,omitempty"` // instead of what the channel's policy says

	// IfNotFound is what follows where the provider was asked and does not have it,
	// instead of what the channel's policy says.
	IfNotFound OnUnknown `json:"if_not_found,omitempty"`
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
// Email, Webhook, HTTP, SQL, Prompt. Its error repeats nothing of the content.
func ReadContent[T SMS | Email | Webhook | HTTP | SQL | Prompt](m *Message) (T, error) {
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

	// Once says that it must not simply be sent again: an answer that leaves it open
	// whether the work was done is Unknown, and not Down.
	Once bool

	Message
}
