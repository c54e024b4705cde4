package model

import (
	"strconv"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// looks is Listener.look as far as the verdict, with look_begin.sql.
func (x *steps) looks(w int) {
	s, l := x.from, x.from.By[w]
	if s.Row.Claim != Fence(w) || !s.Row.open() { // traces.held
		x.then(LookFenced, w, func(_ *State, l *Listener) string {
			l.handBack()
			return ""
		})
		return
	}
	x.handsBack(w)
	if l.lost() {
		return
	}
	if s.Row.Found {
		x.then(Look, w, func(_ *State, l *Listener) string {
			l.finish(dispatch.Settle(x.Policy, int(l.Attempts), x.Limit, false, dispatch.VerdictFound, dispatch.Receipt{}, ""))
			return ""
		})
		return
	}
	x.then(LookFails, w, func(s *State, l *Listener) string {
		l.At, l.Verdict, l.Looks = Noting, 3, s.Row.Looks
		return ""
	})
	// A list may lag behind at each look but the last; one that lies, then, too. That
	// the last look is a minute after the attempt means, with a list that does not
	// lie, that nothing is on its way any more, unless somebody stood still.
	last := int(s.Row.Looks)+1 >= x.Looks || x.Wrong == FirstLookDecides
	settled := s.Adrift == 0
	for _, o := range s.By {
		settled = settled && o.Request != UnderWay && !(o.Lease && (o.At == Checking || o.At == Poised))
	}
	lists := []dispatch.Found{found(s.Taken)}
	switch {
	case x.Liar:
		lists = append(lists, dispatch.Found{}, dispatch.Found{Doubt: "words that are hidden"})
	case int(s.Row.Looks)+1 < x.Looks:
		lists = append(lists, dispatch.Found{})
	case !settled:
		return // not yet a minute
	}
	seen := map[dispatch.Verdict]bool{}
	for _, list := range lists {
		v, _, _ := dispatch.Judge(list, int(l.Attempts), nil)
		if seen[v] {
			continue
		}
		seen[v] = true
		x.then(Look, w, func(s *State, l *Listener) string {
			l.At, l.Looks = Noting, s.Row.Looks
			for i, known := range verdicts {
				if known == v {
					l.Verdict = int8(i)
				}
			}
			if last && x.Wrong == FirstLookDecides {
				l.Looks = int8(x.Looks)
			}
			return ""
		})
	}
}

// found is a list with n messages in it.
func found(n int8) (f dispatch.Found) {
	for i := range n {
		f.Alike = append(f.Alike, dispatch.Receipt{ProviderID: "SM" + strconv.Itoa(int(i))})
	}
	return f
}

// notes is note_look.sql and what follows from the look.
func (x *steps) notes(w int) {
	v := verdicts[x.from.By[w].Verdict]
	write := func(s *State, l *Listener) (broken string) {
		if (s.Row.Claim != Fence(w) || !s.Row.open()) && x.Wrong != LooksUnfenced {
			return ""
		}
		broken = s.writes(w, false, true)
		if v != dispatch.VerdictFailed {
			s.Row.Looks = min(s.Row.Looks+1, int8(x.Looks))
		}
		if v == dispatch.VerdictFound {
			s.Row.Found = true
		}
		return broken
	}
	x.then(Note, w, func(s *State, l *Listener) string {
		ours := s.Row.Claim == Fence(w) && s.Row.open()
		broken := write(s, l)
		switch {
		case v == dispatch.VerdictFound && !ours && x.Wrong != LooksUnfenced:
			l.handBack()
		case v == dispatch.VerdictFound || v != dispatch.VerdictFailed && int(l.Looks)+1 >= x.Looks:
			l.finish(dispatch.Settle(x.Policy, int(l.Attempts), x.Limit, false, v, dispatch.Receipt{}, ""))
		default:
			l.finish(dispatch.Outcome{State: dispatch.Uncertain, Attempts: int(l.Attempts)})
		}
		return broken
	})
	if v == dispatch.VerdictFailed { // as often as it may
		x.then(Note, w, func(s *State, l *Listener) string {
			broken := write(s, l)
			l.finish(dispatch.Settle(x.Policy, int(l.Attempts), x.Limit, false, v, dispatch.Receipt{}, ""))
			return broken
		})
	}
	x.then(NoteLost, w, func(s *State, l *Listener) string {
		broken := write(s, l)
		l.handBack()
		return broken
	})
}
