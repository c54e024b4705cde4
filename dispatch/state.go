package dispatch

// State is where a delivery stands. The words are the same in the ledger,
// the logs and the documentation.
type State string

// The states of a delivery. The first six are open, the rest are terminal.
const (
	Scheduled State = "scheduled" // waits for the time its route gave it
	Ready     State = "ready"     // may be sent now
	Sending   State = "sending"   // bytes may be leaving at this moment
	Retry     State = "retry"     // failed in a way that may pass; waits for its next attempt
	Uncertain State = "uncertain" // bytes left, no clear answer came; settled before anything else is done
	Held      State = "held"      // waits for a person

	Delivered State = "delivered" // the provider took it
	Dead      State = "dead"      // it never will be taken
	Expired   State = "expired"   // its deadline passed first
	Canceled  State = "canceled"  // withdrawn before it was sent
	Skipped   State = "skipped"   // there was nothing to send, or no channel to send it on
)

// Terminal reports whether nothing more will happen to the delivery by itself.
func (s State) Terminal() bool {
	switch s {
	case Delivered, Dead, Expired, Canceled, Skipped:
		return true
	}
	return false
}
