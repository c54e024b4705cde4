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

// Action is the name of a step.
type Action string

// The actions of listeners, in the order of a delivery's life.
const (
	Claim          Action = "claim"
	ClaimUnheard   Action = "claim, answer lost"
	TakeOver       Action = "take over"
	ClaimDue       Action = "claim what is due"
	ClaimDueLost   Action = "claim what is due, answer lost"
	TakeOverDue    Action = "take over what was being sent"
	GiveBack       Action = "give back"
	Untouched      Action = "give back what was not begun"
	Plan           Action = "plan"
	Adopt          Action = "adopt"
	Freeze         Action = "freeze"
	FreezeUnheard  Action = "freeze, answer lost"
	FreezeFenced   Action = "freeze, fenced off"
	Decide         Action = "decide without an attempt"
	Start          Action = "start"
	GiveUp         Action = "give up"
	HandBack       Action = "hand back, since the lease is over"
	Announce       Action = "announce"
	AnnounceLost   Action = "announce, answer lost"
	AnnounceFenced Action = "announce, fenced off"
	Check          Action = "look at the lease"
	NotSent        Action = "cannot connect"
	Send           Action = "send"
	Reply          Action = "reply"
	ReplyLost      Action = "reply lost"
	CutShort       Action = "cut short by the shutdown"
	Look           Action = "look at the provider"
	LookFails      Action = "look at the provider, no answer"
	LookFenced     Action = "look at the provider, fenced off"
	Note           Action = "note the look"
	NoteLost       Action = "note the look, answer lost"
	Record         Action = "record"
	RecordLost     Action = "record, answer lost"
	RecordFenced   Action = "record, fenced off"
	Park           Action = "park"
	ParkCommits    Action = "park commits"
	ParkLost       Action = "park commits, answer lost"
	ParkFenced     Action = "park, fenced off"
	Renew          Action = "renew"
	RenewFenced    Action = "renew, fenced off"
)

// The actions of providers.
const (
	Accepts      Action = "provider accepts"
	Refuses      Action = "provider refuses"
	IsBusy       Action = "provider is busy"
	AcceptsLate  Action = "provider accepts what nobody waits for"
	VanishesLate Action = "what nobody waits for is lost"
)

// The actions of time, and the faults.
const (
	RunsOutHere  Action = "lease runs out, by the listener's clock"
	RunsOutEvent Action = "lease of the event runs out"
	RunsOutRow   Action = "lease of the delivery runs out"
	ComesDue     Action = "delivery comes due"
	Pause        Action = "pause past the lease"
	Crash        Action = "crash"
)

// faults are the actions without which everything has to come to its end all the
// same.
var faults = map[Action]bool{
	ClaimUnheard: true, ClaimDueLost: true, FreezeUnheard: true, AnnounceLost: true, NotSent: true, ReplyLost: true, CutShort: true,
	LookFails: true, NoteLost: true, RecordLost: true, ParkLost: true, Pause: true, Crash: true, IsBusy: true, GiveUp: true, GiveBack: true,
}

// actions are all of them.
func actions() []Action {
	return []Action{
		Claim, ClaimUnheard, TakeOver, ClaimDue, ClaimDueLost, TakeOverDue,
		GiveBack, Untouched, Plan, Adopt, Freeze, FreezeUnheard,
		FreezeFenced, Decide, Start, GiveUp, HandBack, Announce,
		AnnounceLost, AnnounceFenced, Check, NotSent, Send, Reply,
		ReplyLost, CutShort, Look, LookFails, LookFenced, Note,
		NoteLost, Record, RecordLost, RecordFenced, Park, ParkCommits,
		ParkLost, ParkFenced, Renew, RenewFenced, Accepts, Refuses,
		IsBusy, AcceptsLate, VanishesLate, RunsOutHere, RunsOutEvent, RunsOutRow,
		ComesDue, Pause, Crash,
	}
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

// claims are claim_events.sql and claim_due.sql.
func (x *steps) claims(w int) {
	e, r := x.from.Event, x.from.Row
	free := e.Lease == Never || e.Lease == Over || x.Wrong == ClaimsWhatIsLeased && e.Lease == Live
	if !e.Processed && free {
		name := Claim
		if e.Claim != NoFence {
			name = TakeOver
		}
		take := func(s *State, claim Fence, of int8) {
			s.Event.Lease, s.Event.Claim, s.eventOf = Live, claim, of
		}
		x.then(name, w, func(s *State, l *Listener) string {
			*l = Listener{At: Claimed, Lease: true, State: ready, Again: e.Claim != NoFence}
			take(s, Fence(w), int8(w))
			return ""
		})
		x.then(ClaimUnheard, w, func(s *State, _ *Listener) string {
			take(s, Gone, -1)
			return ""
		})
	}
	if r.there() && r.Due == Over {
		name := ClaimDue
		if r.State == sending {
			name = TakeOverDue
		}
		x.then(name, w, func(s *State, l *Listener) string {
			*l = Listener{At: Turn, Lease: true, Alone: true, Known: true, State: taken(r.State), Attempts: r.Attempts}
			s.Row.Due, s.Row.Claim, s.rowOf = Live, Fence(w), int8(w)
			return ""
		})
		x.then(ClaimDueLost, w, func(s *State, _ *Listener) string {
			s.Row.Due, s.Row.Claim, s.rowOf = Live, Gone, -1
			return ""
		})
	}
}

// releaseEvent is release_events.sql.
func (s *State) releaseEvent(w int) (broken string) {
	if s.Event.Claim == Fence(w) && !s.Event.Processed && s.Event.Lease != Parked {
		broken = s.writes(w, true, false)
		s.Event.Lease, s.Event.Claim = Never, Gone
	}
	return broken
}

// plans are Listener.begin and Listener.plan, with adopt_deliveries.sql.
func (x *steps) plans(w int) {
	x.then(GiveBack, w, func(s *State, _ *Listener) string {
		broken := s.releaseEvent(w)
		s.forget(w)
		return broken
	})
	name := Plan
	if x.from.By[w].Again {
		name = Adopt
	}
	x.then(name, w, func(s *State, l *Listener) (broken string) {
		if l.lost() && x.Wrong != BeginsWithoutLease {
			broken = s.releaseEvent(w)
			s.forget(w)
			return broken
		}
		l.At = Turn
		if l.Again && s.Event.Claim == Fence(w) && !s.Event.Processed && s.Row.there() {
			switch {
			case s.Row.State == delivered:
				l.At, l.Nobody = Recording, true
				return ""
			case !s.Row.open():
				return "what is over is planned anew, and nobody opened it again"
			}
			l.Known, l.State, l.Attempts = true, taken(s.Row.State), s.Row.Attempts
			if x.Wrong != AdoptsNothing {
				s.Row.Claim, s.Row.Due, s.rowOf = Fence(w), Never, int8(w)
			}
			if x.Wrong == SendingIsReady && l.State == sending {
				l.State = ready
			}
			return ""
		}
		if x.Freeze {
			l.At = Freezing
		}
		return ""
	})
}

// freezes is freeze_events.sql.
func (x *steps) freezes(w int) {
	if x.from.Event.Claim != Fence(w) {
		x.then(FreezeFenced, w, func(s *State, _ *Listener) string {
			s.forget(w)
			return ""
		})
		return
	}
	write := func(s *State) (broken string) {
		broken = s.writes(w, true, false)
		s.Event.Lease = Parked
		switch {
		case !s.Row.there():
			s.Row = Row{State: ready, Due: Live, Claim: Fence(w)}
			s.rowOf = int8(w)
		case s.Row.Claim == Fence(w) && s.Row.open():
			broken += s.writes(w, false, true)
			s.Row.State, s.Row.Attempts, s.Row.Due = ready, 0, Live
		}
		return broken
	}
	x.then(Freeze, w, func(s *State, l *Listener) string {
		l.At, l.Alone, l.Known, l.State = Turn, true, true, ready
		return write(s)
	})
	x.then(FreezeUnheard, w, func(s *State, _ *Listener) string { return write(s) })
}

// turn is Listener.attempt up to the first thing that it does.
func (x *steps) turn(w int) {
	l := x.from.By[w]
	if l.Alone && l.Parking == none && !l.Announced {
		x.then(GiveBack, w, func(s *State, _ *Listener) (broken string) { // release_deliveries.sql
			if s.Row.Claim == Fence(w) && s.Row.open() {
				broken = s.writes(w, false, true)
				s.Row.Due, s.Row.Claim = Over, NoFence
			}
			s.forget(w)
			return broken
		})
	}
	if l.State.is().Terminal() || l.State == held {
		x.then(Decide, w, func(_ *State, l *Listener) string {
			l.finish(dispatch.Outcome{State: l.State.is(), Attempts: int(l.Attempts)})
			return ""
		})
		return
	}
	if x.Wrong == SendingIsReady && l.State == sending {
		l.State = ready
	}
	if x.unclear(l.State) {
		if x.Policy.OnUnknown == dispatch.Reconcile {
			x.then(Start, w, func(_ *State, l *Listener) string {
				l.At = Looking
				return ""
			})
			return
		}
		if o := dispatch.Decide(x.Policy, int(l.Attempts), x.Limit, dispatch.Receipt{}, failure(dispatch.Unknown)); o.State != dispatch.Uncertain {
			x.then(Decide, w, func(_ *State, l *Listener) string {
				l.finish(o)
				return ""
			})
			return
		}
	}
	x.handsBack(w)
	if l.lost() && x.Wrong != BeginsWithoutLease {
		return
	}
	x.then(Start, w, func(_ *State, l *Listener) string {
		switch {
		case x.Policy.Announce && l.Parking != none && x.Wrong != AnnouncesParking:
			// Its row is being written: it has its turn once it is there.
			l.handBack()
		case x.Policy.Announce && x.Wrong == SendsFirst:
			l.At = Poised
		case x.Policy.Announce:
			l.At, l.Announced = Announcing, true
		default:
			l.At = Checking
		}
		return ""
	})
}

// handsBack has listener w make no attempt: because it is to stop, or has to.
func (x *steps) handsBack(w int) {
	name := GiveUp
	if x.from.By[w].lost() {
		name = HandBack
	}
	x.then(name, w, func(_ *State, l *Listener) string {
		l.handBack()
		return ""
	})
}

// announces are announce_new.sql and announce_again.sql.
func (x *steps) announces(w int) {
	l := x.from.By[w]
	write := func(s *State, l *Listener) (ok bool, broken string) {
		fenced := x.Wrong != AnnouncesUnfenced
		tried := l.Attempts + 1
		if l.Known {
			if s.Row.Claim != Fence(w) && fenced || !s.Row.open() || s.Row.Due == Over && fenced {
				return false, ""
			}
			broken = s.writes(w, false, true)
			if s.Row.Attempts != tried {
				s.Row.Looks = 0 // those of earlier attempts do not count
			}
			s.Row.State, s.Row.Attempts = sending, tried
			return true, broken
		}
		if s.Event.Claim != Fence(w) && fenced || s.Event.Processed || s.Event.Lease != Live && s.Event.Lease != Parked && fenced {
			return false, ""
		}
		if s.Row.there() {
			return s.Row.Claim == Fence(w) && s.Row.State == sending, ""
		}
		broken = s.writes(w, true, false)
		s.Row = Row{State: sending, Attempts: tried, Claim: Fence(w)}
		s.rowOf = int8(w)
		return true, broken
	}
	name := Announce
	trial := x.from
	if ok, _ := write(&trial, &l); !ok {
		name = AnnounceFenced
	}
	x.then(name, w, func(s *State, l *Listener) string {
		ok, broken := write(s, l)
		if ok {
			l.At = Checking
		} else {
			l.Announced = false
			l.handBack()
		}
		return broken
	})
	if name == Announce {
		x.then(AnnounceLost, w, func(s *State, l *Listener) string {
			_, broken := write(s, l)
			return broken
		})
	}
	if l.lost() {
		x.handsBack(w) // unclear
	}
}

// sends is Dispatcher.Send as far as its first byte.
func (x *steps) sends(w int) {
	x.then(NotSent, w, func(_ *State, l *Listener) string {
		x.after(l, failure(dispatch.Down))
		return ""
	})
	x.then(Send, w, func(s *State, l *Listener) string {
		again := s.out > 0
		l.At, l.Request = Waiting, UnderWay
		if l.bytes == nothing {
			l.bytes = left
		}
		add(&s.out, 2)
		switch p := x.Policy; {
		case !again:
		case p.OnUnknown == dispatch.NeverTwice:
			return "what must not be sent twice is submitted again"
		case p.OnUnknown == dispatch.Hold, p.OnUnknown == dispatch.Reconcile && p.IfNotFound != dispatch.Resend:
			return "what may have arrived is sent again, and no person said so"
		}
		return ""
	})
}

// waits is the rest of Dispatcher.Send.
func (x *steps) waits(w int) {
	l := x.from.By[w]
	if l.Request == UnderWay {
		for _, a := range []struct {
			Action
			Request
		}{{Accepts, Accepted}, {Refuses, Refused}, {IsBusy, Busy}} {
			x.then(a.Action, w, func(s *State, l *Listener) string {
				if l.Request = a.Request; a.Request == Accepted {
					add(&s.Taken, x.list())
					if l.bytes == left {
						l.bytes = counted
						s.bare++
					}
				}
				return ""
			})
		}
	} else {
		x.then(Reply, w, func(s *State, l *Listener) string {
			var err *dispatch.Error
			switch l.Request {
			case Refused:
				err = failure(dispatch.Rejected)
				s.no(l)
			case Busy:
				err = failure(dispatch.Down)
				s.no(l)
			}
			x.after(l, err)
			return ""
		})
	}
	if l.Request == Busy || l.Request == UnderWay && x.Wrong == GivesBackWhatLeft {
		x.then(CutShort, w, func(s *State, l *Listener) string {
			if l.Request == UnderWay {
				add(&s.Adrift, x.adrift())
			} else {
				s.no(l)
			}
			l.handBack()
			return ""
		})
	}
	x.then(ReplyLost, w, func(s *State, l *Listener) string {
		s.excuse(l)
		if l.Request == UnderWay {
			add(&s.Adrift, x.adrift())
		}
		kind := dispatch.Unknown
		if x.Wrong == UnknownIsNotSent {
			kind = dispatch.Down
		}
		x.after(l, failure(kind))
		return ""
	})
}

// no notes that the answer to what l sent was that it was not taken.
func (s *State) no(l *Listener) {
	l.bytes = nothing
	if s.out > 0 {
		s.out--
	}
}

// provider adds what becomes of requests that nobody waits for any more.
func (x *steps) provider() {
	if x.from.Adrift == 0 {
		return
	}
	for _, stay := range []bool{false, true} {
		if stay && x.from.Adrift < x.adrift() {
			continue // exactly so many
		}
		less := func(s *State) {
			if !stay {
				s.Adrift--
			}
		}
		x.then(AcceptsLate, -1, func(s *State, _ *Listener) string {
			less(s)
			add(&s.Taken, x.list())
			return ""
		})
		x.then(VanishesLate, -1, func(s *State, _ *Listener) string {
			less(s)
			return ""
		})
	}
}
