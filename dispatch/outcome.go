package dispatch

import "time"

// Outcome is what one attempt came to, in one value.
type Outcome struct {
	State    State         // where the delivery stands now
	Receipt  Receipt       // the provider's answer when State is Delivered
	Err      *Error        // why it was not taken; nil when it was, or when nothing was tried
	Reason   string        // for people: why it was skipped, refused or held
	MinWait  time.Duration // the shortest wait that the provider asked for before the next attempt
	Attempts int           // attempts so far, this one included where it was begun
}

// Decide says where a delivery stands after its attempt number n, of at most
// limit, ended with err. It is the only place that decides.
func Decide(p Policy, n, limit int, r Receipt, err *Error) Outcome {
	o := Outcome{Receipt: r, Err: err, Attempts: n}
	if err == nil {
		o.State = Delivered
		return o
	}
	o.MinWait = min(max(err.RetryAfter, 0), MaxRetryAfter)
	switch {
	case err.Kind == Rejected:
		o.State = Dead
	case err.Kind == Unknown && p.OnUnknown == Hold:
		o.State = Held
		o.Reason = "may have arrived: no clear answer came"
	case n >= limit:
		o.State = Dead
		o.Reason = "no attempts left"
	case err.Kind == Unknown:
		o.State = Uncertain
	default:
		o.State = Retry
	}
	return o
}
