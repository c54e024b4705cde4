package dispatch

import "github.com/google/uuid"

// Fate is what a provider says became of a delivery after it took it. The words are
// those of the ledger's column receipt.
type Fate string

// The fates.
const (
	FateQueued      Fate = "queued"      // it waits at the provider
	FateSent        Fate = "sent"        // it was handed on, to a carrier say
	FateCanceled    Fate = "canceled"    // it was withdrawn at the provider before it was handed on
	FateFailed      Fate = "failed"      // the provider could not hand it on
	FateUndelivered Fate = "undelivered" // it was handed on, and did not arrive
	FateDelivered   Fate = "delivered"   // it arrived
)

// Final reports whether nothing follows f but FateDelivered, which is believed
// whenever it comes.
func (f Fate) Final() bool {
	switch f {
	case FateCanceled, FateFailed, FateUndelivered, FateDelivered:
		return true
	}
	return false
}

// Report is what a provider says, by itself and when it likes, about a delivery that
// it took.
type Report struct {
	Delivery   uuid.UUID // zero where it says of none that it is about
	ProviderID string    // the provider's own name for it; "" when it gave none
	Fate       Fate      // "" when what it says is none of ours
	Code       string    // the provider's reason, such as Twilio's error code; "" when it gave none
}
