package model

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
