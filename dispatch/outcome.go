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

// ReasonUnknown begins the reason of a delivery that is dead since nobody can tell
// whether it arrived, and it must not be sent twice.
const ReasonUnknown = "unknown_outcome"

// Decide says where a delivery stands after its attempt number n, of at most
// limit, ended with err. It is the only place that decides, beside Settle.
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
	case err.Kind == Unknown:
		o.unknown(p, limit)
	case n >= limit:
		o.State = Dead
		o.Reason = "no attempts left"
	default:
		o.State = Retry
	}
	return o
}

// unknown says where a delivery stands that may have arrived.
func (o *Outcome) unknown(p Policy, limit int) {
	switch p.OnUnknown {
	case NeverTwice:
		o.State = Dead
		o.Reason = ReasonUnknown + ": it may have arrived, and must not be sent twice"
	case Reconcile:
		o.State = Uncertain // the provider is asked, after the last attempt too
	case Resend, "":
		o.State = Uncertain
		if o.Attempts >= limit {
			o.State, o.Reason = Dead, "no attempts left, and the last may have arrived"
		}
	default: // also what a later version may know
		o.State = Held
		o.Reason = "may have arrived: no clear answer came"
	}
}

// Settle says where a delivery of n attempts, of at most limit, stands after the
// provider was asked for the last time whether it has it. expired says that its
// deadline has passed.
func Settle(p Policy, n, limit int, expired bool, v Verdict, r Receipt, why string) Outcome {
	o := Outcome{Attempts: n}
	switch {
	case v == VerdictFound:
		o.State, o.Receipt = Delivered, r
		o.Reason = "no clear answer came, and the provider has it"
	case v != VerdictNotThere:
		o.State = Held
		o.Reason = "may have arrived: the provider cannot tell"
		if why != "" {
			o.Reason += ", since " + why
		}
	case p.IfNotFound != Resend:
		o.State = Held
		o.Reason = "no clear answer came, and the provider does not have it"
	case expired:
		o.State = Expired
		o.Reason = "its deadline passed, and the provider does not have it"
	case n >= limit:
		o.State = Dead
		o.Reason = "no attempts left, and the provider does not have it"
	default:
		o.State = Retry
		o.Reason = "no clear answer came, and the provider does not have it"
	}
	return o
}
