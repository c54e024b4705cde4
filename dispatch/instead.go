package dispatch

import (
	"fmt"
	"time"
)

// Standing is where the delivery stands that another one is sent instead of, as the
// ledger has it. The zero value is one that is not there.
type Standing struct {
	State   State
	Fate    Fate          // what its provider reported since it took it; "" where nothing was
	Code    string        // why
	Unclear bool          // it may have arrived: not each of its attempts is on record as not taken
	Over    time.Duration // since when it is, where State is terminal
}

// lookAgain is when what is open is looked at again, where nobody says before that it is
// over.
const lookAgain = time.Hour

// Instead says what becomes of the delivery that is sent where step, which stands so,
// did not arrive. It is sent where that is known, and only then: where send is false it
// is skipped for the reason skip, or where that is "" asked for again after wait. Word of
// what the provider took is waited for as long as patience.
func (s Standing) Instead(step string, patience time.Duration) (send bool, skip string, wait time.Duration) {
	switch s.Fate {
	case FateUndelivered, FateFailed:
		return true, "", 0
	case FateDelivered:
		return false, fmt.Sprintf("the step %s arrived", step), 0
	case FateCanceled:
		return false, fmt.Sprintf("the step %s was withdrawn at its provider", step), 0
	}
	switch {
	case s.State == "":
		return false, fmt.Sprintf("the step %s is not on record", step), 0
	case !s.State.Terminal():
		return false, "", min(lookAgain, patience)
	case s.State == Dead && !s.Unclear:
		return true, "", 0
	case s.State != Delivered && s.State != Dead:
		return false, fmt.Sprintf("the step %s was not sent (%s)", step, s.State), 0
	case s.Over >= patience:
		return false, fmt.Sprintf("no word came within %v of whether the step %s arrived", patience, step), 0
	}
	return false, "", patience - s.Over
}
