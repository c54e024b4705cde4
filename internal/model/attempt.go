package model

import "github.com/outbox-listener/outbox-listener/dispatch"

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
