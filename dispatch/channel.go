package dispatch

import (
	"context"
	"encoding/json"
	"time"
)

// Channel names a way of delivery. A Postgres NOTIFY name is never called a
// channel in this project; that is the wake name.
type Channel string

// The channels that come with the program.
const (
	ChannelSMS     Channel = "sms"
	ChannelEmail   Channel = "email"
	ChannelWebhook Channel = "webhook"
	ChannelLog     Channel = "log"
	ChannelDiscard Channel = "discard"
	ChannelHandler Channel = "handler" // a Go function registered with Handle
	ChannelHTTP    Channel = "http"
	ChannelOpenAI  Channel = "openai"
	ChannelSQL     Channel = "sql" // has no Sender: the listener runs it with the record
)

// Receipt is what a provider answered when it took a delivery.
type Receipt struct {
	ProviderID string // the provider's own name for it, such as a Twilio SID; "" when it gave none
	Status     int    // HTTP or SMTP reply code; 0 when the channel has none

	// Answer is a JSON object that later steps of the route may use; nil when
	// there is none.
	Answer json.RawMessage
}

// Sender hands one delivery to a provider and waits for the answer.
//
// It returns once the provider took the delivery, refused it, or ctx ended.
// A non-nil error should be, or wrap, an *Error; any other error counts as
// Unknown, since nobody can tell whether the delivery arrived. Send may be
// called by many goroutines at once, and again for the same Delivery.ID.
type Sender interface {
	Send(ctx context.Context, d *Delivery) (Receipt, error)
}

// Instant is a Sender that waits for nothing and nobody: its deliveries are done
// as soon as they are begun, and are given no deadline.
type Instant interface {
	Sender
	Instant()
}

// Addressed is a Sender whose deliveries go to more than one place. Deliveries
// to a place that is slow or down do not keep those to others waiting.
//
// Destination names the place of d, such as a host with its port; it must be
// cheap, and return the same for the same delivery. The place of a Sender
// without it is its channel.
type Addressed interface {
	Destination(d *Delivery) string
}

// Metered is a Sender for which a rate counts by something finer than its
// destinations, such as the sender of an SMS. RateKey names it; it is as Destination
// in all else.
type Metered interface {
	RateKey(d *Delivery) string
}

// Policy says how the deliveries of one channel are to be handled around the
// moment of sending. The zero value suits a receiver that tells repeated
// deliveries apart by their id.
type Policy struct {
	// Announce commits the delivery as "sending" before its first byte
	// leaves, so that a crash leaves a trace. Needed wherever a second send
	// is visible to a person.
	Announce bool

	// OnUnknown says what follows when bytes left and no clear answer came.
	// Whatever is not Resend has the delivery announced too: after a crash, too,
	// it must be known that something may have left.
	OnUnknown OnUnknown

	// IfNotFound says what follows where OnUnknown is Reconcile and the provider
	// does not have it: Resend or Hold. "" means Hold.
	IfNotFound OnUnknown

	// Provider says that behind each destination is one service whose troubles
	// are those of all deliveries to it, and not of the one that meets them. After
	// failures there, all listeners wait, and try with one delivery a second.
	Provider bool

	// Timeout bounds one attempt, except of a sender that is Instant. 0 means
	// DefaultTimeout.
	Timeout time.Duration

	// Concurrency is the most attempts at one destination at once. 0 means
	// no limit but the number of workers.
	Concurrency int
}

// DefaultTimeout bounds an attempt on a channel whose Policy names no other.
const DefaultTimeout = 15 * time.Second

// OnUnknown is the answer to an attempt that may or may not have arrived.
type OnUnknown string

// The zero value of OnUnknown means Resend.
const (
	Resend     OnUnknown = "resend"      // send again under the same id
	Hold       OnUnknown = "hold"        // a person decides
	Reconcile  OnUnknown = "reconcile"   // ask the provider whether it has it; its Sender is a Reconciler
	NeverTwice OnUnknown = "never_twice" // it is dead, and nobody sends it again
)
