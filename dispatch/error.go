package dispatch

import (
	"errors"
	"fmt"
	"time"
)

// Kind sorts failures by what may safely be done next.
type Kind string

// The four kinds. Nothing else decides whether a delivery is tried again.
const (
	Rejected  Kind = "rejected"  // it never will be taken: dead
	Throttled Kind = "throttled" // not taken, too fast: wait RetryAfter
	Down      Kind = "down"      // not taken: try again later
	Unknown   Kind = "unknown"   // sent, no clear answer: may have arrived
)

// Error reports why a channel did not take a delivery, in the terms that the
// retry policy acts on. Senders return it; nothing else decides to retry.
type Error struct {
	Channel    Channel
	Kind       Kind
	Status     int           // HTTP or SMTP reply code; 0 when none came
	Code       string        // the provider's own code, such as Twilio's "21211"; "" when it gave none
	RetryAfter time.Duration // the provider's wish; 0 when it had none
	Alone      bool          // the provider works: what it says is about this delivery and no other, such as a mailbox that is full
	Err        error         // the cause, free of credentials, recipients and full URLs
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Channel, e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Code != "" {
		s += " code " + e.Code
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// AsError returns err as an *Error of channel ch. An error of any other type
// becomes one of kind Unknown: the sender did not say that nothing left.
func AsError(ch Channel, err error) *Error {
	if e := ours(err); e != nil {
		named := *e
		if named.Channel == "" {
			named.Channel = ch
		}
		if named.Err != nil {
			named.Err = frozen(named.Err)
		}
		return &named
	}
	return &Error{Channel: ch, Kind: Unknown, Err: frozen(err)}
}

// ours returns the *Error that err is or wraps, or nil.
func ours(err error) (e *Error) {
	defer func() {
		if recover() != nil { // an Unwrap of others
			e = nil
		}
	}()
	e, _ = errors.AsType[*Error](err)
	return e
}

// frozenError is an error whose text was taken once, where a panic in it is
// caught.
type frozenError struct {
	text string
	err  error // nil where it panicked
}

// frozen takes the text of err. The cause of a failure is code of others: its
// Error method may panic, or its value be a nil of some type.
func frozen(err error) (f error) {
	defer func() {
		if r := recover(); r != nil {
			f = &frozenError{text: fmt.Sprintf("an error of type %T, whose text panicked", err)}
		}
	}()
	return &frozenError{text: err.Error(), err: err}
}

func (f *frozenError) Error() string { return f.text }
func (f *frozenError) Unwrap() error { return f.err }
