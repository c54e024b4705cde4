package model

import "github.com/outbox-listener/outbox-listener/dispatch"

// dueAfter is due_at of a delivery whose outcome is o.
func dueAfter(o Word) Lease {
	if o.is().Terminal() || o == held {
		return Never
	}
	return Later
}

// records writes the outcome: release_events.sql, record_events.sql (and
// record_fresh.sql, which differs in what it asks) or record_deliveries.sql.
func (x *steps) records(w int) {
	l := x.from.By[w]
	if l.Parking != none {
		return // its row is not in the ledger yet
	}
	if l.Fenced {
		x.then(RecordFenced, w, func(s *State, _ *Listener) string {
			s.forget(w)
			return ""
		})
		return
	}
	write := func(s *State, l *Listener) (kept bool, broken string) { return x.recordEvent(s, l, w) }
	switch {
	case l.Alone:
		write = func(s *State, l *Listener) (kept bool, broken string) { return x.recordDelivery(s, l, w) }
	case l.Outcome == ready && !l.Known && !l.Announced && !l.Nobody: // Listener.handOver: untouched
		x.then(Untouched, w, func(s *State, _ *Listener) string {
			broken := s.releaseEvent(w)
			s.forget(w)
			return broken
		})
		return
	}
	trial := x.from
	if kept, _ := write(&trial, &trial.By[w]); !kept {
		x.then(RecordFenced, w, func(s *State, l *Listener) string {
			s.forget(w)
			return ""
		})
		return
	}
	x.then(Record, w, func(s *State, l *Listener) string {
		_, broken := write(s, l)
		s.forget(w)
		return broken
	})
	x.then(RecordLost, w, func(s *State, l *Listener) string {
		_, broken := write(s, l)
		return broken
	})
}

// put writes an outcome into the row.
func (s *State) put(l *Listener) {
	s.Row.State, s.Row.Attempts, s.Row.Unknown = l.Outcome, l.Tried, l.Unknown
	s.Row.Due = dueAfter(l.Outcome)
}

// recordEvent is record_events.sql.
func (x *steps) recordEvent(s *State, l *Listener, w int) (kept bool, broken string) {
	if s.Event.Claim != Fence(w) && x.Wrong != RecordsUnfenced {
		return false, ""
	}
	broken = s.writes(w, true, false)
	if l.Nobody {
		s.Event.Processed, s.Event.Lease = true, Never
		return true, broken
	}
	if o := l.Outcome.is(); o.Terminal() || o == dispatch.Scheduled {
		s.Event.Processed, s.Event.Lease = true, Never
	} else {
		s.Event.Lease = Parked
	}
	switch {
	case !s.Row.there():
		s.put(l)
		s.Row.Claim, s.rowOf = NoFence, -1 // what has its outcome is nobody's
	case s.Row.Claim == Fence(w) && s.Row.open():
		broken += s.writes(w, false, true)
		s.put(l)
		s.Row.Claim, s.rowOf = NoFence, -1
	}
	return true, broken
}

// recordDelivery is record_deliveries.sql, with settle_events.sql.
func (x *steps) recordDelivery(s *State, l *Listener, w int) (kept bool, broken string) {
	ours := s.Row.Claim == Fence(w) || s.Row.Claim == Fence(w).successor()
	if !s.Row.there() || !ours && x.Wrong != RecordsUnfenced {
		return false, ""
	}
	broken = s.writes(w, false, true)
	s.put(l)
	s.Row.Claim = Fence(w).successor()
	if !s.Row.open() && !s.Event.Processed && s.Event.Lease == Parked && x.Wrong != SettlesNothing {
		s.Event.Processed, s.Event.Lease = true, Never
	}
	return true, broken
}

// parks is what happens to an event that is worked on for long: listener/settle.go.
// What is written is how the delivery stood when that was asked for, and it goes on
// meanwhile.
func (x *steps) parks(w int) {
	l := x.from.By[w]
	if l.Parking == none {
		if l.Alone || l.Fenced || l.At < Turn || l.At >= Recording {
			return
		}
		x.then(Park, w, func(_ *State, l *Listener) string { // job.ledgerRow
			l.Parking, l.ParkingTried = ready, l.Attempts
			switch {
			case l.begun() || l.Announced:
				l.Parking, l.ParkingTried = sending, l.Attempts+1
			case l.State == sending || l.State == uncertain || l.State == held:
				l.Parking = l.State
			}
			return ""
		})
		return
	}
	write := func(s *State, l *Listener) (broken string) {
		broken = s.writes(w, true, false)
		s.Event.Lease = Parked
		due := Live
		if x.Wrong == ParksForEver {
			due = Never
		}
		switch {
		case !s.Row.there():
			s.Row = Row{State: l.Parking, Attempts: l.ParkingTried, Due: due, Claim: Fence(w)}
			s.rowOf = int8(w)
		case s.Row.Claim == Fence(w) && s.Row.open():
			broken += s.writes(w, false, true)
			s.Row.State, s.Row.Attempts, s.Row.Due = l.Parking, l.ParkingTried, due
		}
		return broken
	}
	if x.from.Event.Claim != Fence(w) {
		x.then(ParkFenced, w, func(s *State, l *Listener) string {
			l.Parking, l.ParkingTried = none, 0
			if x.Wrong == RecordsWhatIsTaken {
				l.Alone = true
				return ""
			}
			l.Fenced = true
			s.ends(w)
			return ""
		})
		return
	}
	x.then(ParkCommits, w, func(s *State, l *Listener) string {
		broken := write(s, l)
		l.Parking, l.ParkingTried, l.Alone = none, 0, true
		return broken
	})
	x.then(ParkLost, w, func(s *State, l *Listener) string { return write(s, l) })
}
