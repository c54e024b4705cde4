package dispatch

import (
	"context"
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"time"
)

// Reconciler is a Sender whose provider can be asked, after an attempt without a
// clear answer, whether it took the delivery.
type Reconciler interface {
	Sender

	// Find returns what the provider has that is as d, and was taken at since or
	// later. The provider's clock may be a few seconds off; since is of this
	// machine's. Nothing is sent. An error, which should be an *Error as that of Send,
	// says that the question was not answered.
	Find(ctx context.Context, d *Delivery, since time.Time) (Found, error)

	// Likeness returns a text that two deliveries have in common exactly where Find
	// cannot tell one from the other: recipient, sender and words, say.
	Likeness(d *Delivery) string
}

// Found is what a provider has that is as a delivery.
type Found struct {
	Alike []Receipt // exactly so, oldest first; each with a ProviderID
	Doubt string    // why something else that it has may be the delivery too, for people; "" where nothing is
}

// Verdict is what one look for a delivery of unknown outcome came to. The words
// are those of the ledger.
type Verdict string

// The verdicts.
const (
	VerdictFound        Verdict = "found"        // the provider took it
	VerdictNotThere     Verdict = "not_there"    // it has nothing that it could be
	VerdictInconclusive Verdict = "inconclusive" // it has something that it may be, and others may be as well
	VerdictFailed       Verdict = "failed"       // the question was not answered
)

// Claimant is another delivery that Find cannot tell from the one that is looked
// for, as the ledger has it.
type Claimant struct {
	State      State
	Attempts   int
	ProviderID string // what it is known to be at the provider; "" where that is not known
}

// Judge says what found means for a delivery of which own attempts were made and
// that others resemble, which of Alike it is, and for people why that cannot be said.
//
// What others are known to be is not ours. What is left may be anybody's whose
// outcome is not known: as they are all the same it does not matter whose, only
// that none is taken twice. But it must not be taken from one whose answer may still
// come; and where there is more than all of them attempted, somebody else sends the
// same.
func Judge(found Found, own int, others []Claimant) (v Verdict, r Receipt, why string) {
	known := map[string]bool{}
	most, underWay := own, false
	for _, o := range others {
		switch {
		case o.ProviderID != "":
			known[o.ProviderID] = true
			continue
		case o.State == Sending:
			underWay = true
		}
		most += o.Attempts
	}
	var free []Receipt
	for _, a := range found.Alike {
		if a.ProviderID != "" && !known[a.ProviderID] {
			free = append(free, a)
		}
	}
	switch {
	case len(free) > most:
		return VerdictInconclusive, Receipt{}, fmt.Sprintf("it has %d that are the same, and %s", len(free), attempted(most))
	case len(free) > 0 && underWay:
		return VerdictInconclusive, Receipt{}, "the same is being sent by another delivery at this moment"
	case len(free) > 0:
		return VerdictFound, free[0], ""
	case found.Doubt != "":
		return VerdictInconclusive, Receipt{}, found.Doubt
	}
	return VerdictNotThere, Receipt{}, ""
}

func attempted(n int) string {
	if n == 1 {
		return "only one was attempted"
	}
	return fmt.Sprintf("only %d were attempted", n)
}

// Reconcilable reports whether the provider of ch can be asked what it took.
func (d *Dispatcher) Reconcilable(ch Channel) bool {
	_, ok := d.senders[ch].sender.(Reconciler)
	return ok
}

// likenessBits are enough to find the few deliveries that are alike, and too few to
// learn from them whom a known text went to.
const likenessBits = 20

// Likeness is a short hash of what the provider of del cannot tell it from others
// by. ok is false where it cannot be asked, and where there is nothing to compare.
func (d *Dispatcher) Likeness(del *Delivery) (hash int32, ok bool) {
	r, can := d.senders[del.Channel].sender.(Reconciler)
	if !can {
		return 0, false
	}
	defer func() {
		if recover() != nil {
			hash, ok = 0, false
		}
	}()
	text := r.Likeness(del)
	if text == "" {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return int32(h.Sum64() >> (64 - likenessBits)), true
}

// Find asks the provider of del for what is as del, within the channel's timeout. The
// error is nil exactly when it answered.
func (d *Dispatcher) Find(ctx context.Context, del *Delivery, since time.Time) (f Found, e *Error) {
	reg := d.senders[del.Channel]
	r, ok := reg.sender.(Reconciler)
	if !ok {
		return Found{}, &Error{Channel: del.Channel, Kind: Rejected, Err: fmt.Errorf("this channel cannot be asked what it took")}
	}
	ctx, cancel := context.WithTimeout(ctx, reg.policy.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			f, e = Found{}, &Error{Channel: del.Channel, Kind: Unknown, Err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	f, err := r.Find(ctx, del, since)
	if err != nil {
		return Found{}, AsError(del.Channel, err)
	}
	return f, nil
}
