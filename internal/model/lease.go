package model

// alive reports whether f belongs to somebody whose lease is not over on its own
// clock. It counts from before the question, so that it is never longer than in the
// database.
func (s *State) alive(f Fence) bool {
	for w, l := range s.By {
		if (f == Fence(w) || f == Fence(w).successor()) && l.Lease {
			return true
		}
	}
	return false
}

// ends has the lease of listener w run out on its own clock.
func (s *State) ends(w int) {
	l := &s.By[w]
	l.Lease = false
	s.excuse(l)
	if l.At == Poised {
		s.stoodStill = true
	}
}

// leaseOf adds renewals of what listener w holds (renew_events.sql,
// renew_deliveries.sql), and the end of its lease.
func (x *steps) leaseOf(w int) {
	l := x.from.By[w]
	if l.At == Idle {
		return
	}
	if l.Lease {
		x.then(RunsOutHere, w, func(s *State, _ *Listener) string {
			s.ends(w)
			return ""
		})
		x.then(Pause, w, func(s *State, _ *Listener) string {
			s.ends(w)
			if s.Event.Claim == Fence(w) && s.Event.Lease == Live {
				s.Event.Lease = Over
			}
			if s.Row.Claim == Fence(w) && s.Row.Due == Live {
				s.Row.Due = Over
			}
			return ""
		})
	}
	e, r := x.from.Event, x.from.Row
	fenced := x.Wrong != RenewsUnfenced
	var kept bool
	if l.Alone {
		kept = (r.Claim == Fence(w) || !fenced) && r.open() && (r.Due == Live || r.Due == Over)
	} else {
		kept = (e.Claim == Fence(w) || !fenced) && !e.Processed && e.Lease != Parked
	}
	if !kept {
		x.then(RenewFenced, w, func(s *State, _ *Listener) string {
			s.ends(w)
			return ""
		})
		return
	}
	x.then(Renew, w, func(s *State, l *Listener) (broken string) {
		if l.Lease = true; l.Alone {
			broken = s.writes(w, false, true)
			s.Row.Due = Live
		} else {
			broken = s.writes(w, true, false)
			s.Event.Lease = Live
		}
		return broken
	})
}

// time adds what time brings to the database.
func (x *steps) time() {
	e, r := x.from.Event, x.from.Row
	if e.Lease == Live && !x.from.alive(e.Claim) {
		x.then(RunsOutEvent, -1, func(s *State, _ *Listener) string {
			s.Event.Lease = Over
			return ""
		})
	}
	switch {
	case r.Due == Live && !x.from.alive(r.Claim):
		x.then(RunsOutRow, -1, func(s *State, _ *Listener) string {
			s.Row.Due = Over
			return ""
		})
	case r.Due == Later:
		x.then(ComesDue, -1, func(s *State, _ *Listener) string {
			s.Row.Due = Over
			return ""
		})
	}
}
