package model

import (
	"errors"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Step is one step from a state to another.
type Step struct {
	Action Action
	By     int // the listener, or -1
	To     State
	Broken string // what the step itself does that must not be done; "" for nothing
}

// steps are all that may happen next.
func (c Config) steps(s State) []Step {
	x := &steps{Config: c, from: s}
	for w := range s.By {
		x.listener(w)
		x.leaseOf(w)
	}
	x.provider()
	x.time()
	return x.all
}

type steps struct {
	Config
	from State
	all  []Step
}

// then adds a step of listener by, made by f from a copy of the state.
func (x *steps) then(a Action, by int, f func(s *State, l *Listener) string) {
	st := Step{Action: a, By: by, To: x.from}
	var l *Listener
	if by >= 0 {
		l = &st.To.By[by]
	}
	st.Broken = f(&st.To, l)
	x.all = append(x.all, st)
}

// writes says what is wrong with a write to the event's row, the delivery's, or both,
// by listener w.
func (s *State) writes(w int, event, row bool) string {
	switch {
	case event && int(s.eventOf) != w:
		return "an event is written under an old fence"
	case row && int(s.rowOf) != w:
		return "a delivery is written under an old fence"
	}
	return ""
}

// forget empties what listener w remembers. Nobody knows its fences any more.
func (s *State) forget(w int) {
	s.By[w] = Listener{}
	for _, f := range []*Fence{&s.Event.Claim, &s.Row.Claim} {
		if *f == Fence(w) || *f == Fence(w).successor() {
			*f = Gone
		}
	}
	for _, of := range []*int8{&s.eventOf, &s.rowOf} {
		if int(*of) == w {
			*of = -1
		}
	}
}

// excuse notes a fault upon an attempt of l that is not on record.
func (s *State) excuse(l *Listener) {
	switch {
	case l.bytes == counted:
		s.bare--
		l.bytes = excused
	case l.bytes == left || l.At == Poised:
		l.bytes = excused
	}
}

// lost is Listener.lost.
func (l *Listener) lost() bool { return !l.Lease }

// begun is job.begun.
func (l *Listener) begun() bool { return l.At >= Checking && l.At <= Waiting }

// taken is how a delivery in state w is remembered by who takes it.
func taken(w Word) Word {
	if w == sending || w == uncertain || w == held || w.is().Terminal() {
		return w
	}
	return ready
}

// adrift is the most requests that are counted of those whose answer nobody waits for.
func (c Config) adrift() int8 {
	if c.Policy.OnUnknown == dispatch.Resend {
		return 1
	}
	return 2
}

// list is the most messages that are counted at the provider.
func (c Config) list() int8 {
	if c.Policy.OnUnknown == dispatch.Resend {
		return 1
	}
	return int8(c.Limit) + 1
}

// finish has the outcome recorded next.
func (l *Listener) finish(o dispatch.Outcome) {
	l.At, l.Outcome, l.Tried = Recording, word(o.State), int8(o.Attempts)
	l.Unknown = o.State == dispatch.Dead && len(o.Reason) >= len(dispatch.ReasonUnknown) && o.Reason[:len(dispatch.ReasonUnknown)] == dispatch.ReasonUnknown
	l.Request, l.Verdict, l.Looks = NoRequest, 0, 0
}

// handBack is job.notBegun.
func (l *Listener) handBack() {
	o := dispatch.Outcome{State: dispatch.Ready, Attempts: int(l.Attempts)}
	if l.State == sending || l.State == uncertain {
		o.State = l.State.is()
	}
	l.finish(o)
}

// unclear is job.unclear.
func (c Config) unclear(state Word) bool {
	return state == sending || state == uncertain && c.Policy.OnUnknown != dispatch.Resend
}

var errModel = errors.New("model")

func failure(k dispatch.Kind) *dispatch.Error { return &dispatch.Error{Kind: k, Err: errModel} }

// after finishes attempt number l.Attempts+1, which ended with err.
func (c Config) after(l *Listener, err *dispatch.Error) {
	l.finish(dispatch.Decide(c.Policy, int(l.Attempts)+1, c.Limit, dispatch.Receipt{}, err))
}

// listener adds what listener w may do next.
func (x *steps) listener(w int) {
	l := x.from.By[w]
	if l.At != Idle {
		x.then(Crash, w, func(s *State, l *Listener) string {
			s.excuse(l)
			if l.Request == UnderWay {
				add(&s.Adrift, x.adrift())
			}
			s.forget(w)
			return ""
		})
	}
	switch l.At {
	case Idle:
		x.claims(w)
	case Claimed:
		x.plans(w)
	case Freezing:
		x.freezes(w)
	case Turn:
		x.turn(w)
	case Announcing:
		x.announces(w)
	case Checking:
		x.then(Check, w, func(_ *State, l *Listener) string {
			if l.lost() && x.Wrong != BeginsWithoutLease {
				l.handBack()
			} else {
				l.At = Poised
			}
			return ""
		})
	case Poised:
		x.sends(w)
	case Waiting:
		x.waits(w)
	case Looking:
		x.looks(w)
	case Noting:
		x.notes(w)
	case Recording:
		x.records(w)
	}
	x.parks(w)
}
