package model

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
