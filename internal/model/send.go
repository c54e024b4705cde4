package model

import "github.com/outbox-listener/outbox-listener/dispatch"

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
