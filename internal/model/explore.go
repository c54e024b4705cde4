package model

import (
	stdbytes "bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Result is what an exploration came to.
type Result struct {
	States  int
	Steps   int            // from one state to another, all counted
	Depth   int            // the longest of the shortest ways to a state
	Actions map[Action]int // how often each was seen
	Ends    map[string]int // how it may end, and in how many states

	// Broken says which promise is broken, "" for none, and Trace the shortest way
	// there, a step a line.
	Broken string
	Trace  string
}

// node is a state on the way to others.
type node struct {
	state State
	from  int32
	by    int8
	act   Action
}

// Explore goes breadth first through every state that can be reached under c, and
// stops at the first that breaks a promise. Once it has seen all of them, it looks
// for those from which no way leads to an end without further faults.
func (c Config) Explore() Result {
	res := Result{Actions: map[Action]int{}, Ends: map[string]int{}}
	first := c.canonical(start())
	nodes := []node{{state: first, from: -1}}
	seen := map[State]int32{first: 0}
	var edges [][2]int32 // of steps without a fault
	depth, level := 0, 1
	for i := 0; i < len(nodes); i++ {
		if i == level {
			depth, level = depth+1, len(nodes)
		}
		s := nodes[i].state
		if why := c.wrong(s); why != "" {
			return c.broken(res, nodes, int32(i), why)
		}
		for _, st := range c.steps(s) {
			res.Steps++
			res.Actions[st.Action]++
			why := st.Broken
			if why == "" {
				why = illegal(s.Row.State, st.To.Row.State)
			}
			to := c.canonical(st.To)
			j, known := seen[to]
			if !known {
				j = int32(len(nodes))
				seen[to] = j
				nodes = append(nodes, node{state: to, from: int32(i), by: int8(st.By), act: st.Action})
			}
			if why != "" {
				nodes = append(nodes, node{state: to, from: int32(i), by: int8(st.By), act: st.Action})
				return c.broken(res, nodes, int32(len(nodes)-1), why)
			}
			if !faults[st.Action] {
				edges = append(edges, [2]int32{int32(i), j})
			}
		}
	}
	res.States, res.Depth = len(nodes), depth
	return c.live(res, nodes, edges)
}

// live looks for states from which there is no way to an end.
func (c Config) live(res Result, nodes []node, edges [][2]int32) Result {
	at := make([]int, len(nodes)+1) // where what leads to a state begins in back
	for _, e := range edges {
		at[e[1]+1]++
	}
	for i := range nodes {
		at[i+1] += at[i]
	}
	back, next := make([]int32, len(edges)), slices.Clone(at)
	for _, e := range edges {
		back[next[e[1]]] = e[0]
		next[e[1]]++
	}
	ends := make([]bool, len(nodes))
	var todo []int32
	for i := range nodes {
		if s := nodes[i].state; s.over() {
			res.Ends[s.end()]++
			ends[i] = true
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, j := range back[at[i]:at[i+1]] {
			if !ends[j] {
				ends[j] = true
				todo = append(todo, j)
			}
		}
	}
	if i := slices.Index(ends, false); i >= 0 {
		return c.broken(res, nodes, int32(i), "from here no way leads to an end")
	}
	return res
}

// over reports whether nothing is left to do.
func (s State) over() bool {
	for _, l := range s.By {
		if l.At != Idle {
			return false
		}
	}
	return s.Adrift == 0 && (s.Event.Processed || s.Row.State == held && s.Row.Due == Never && s.Event.Lease == Parked)
}

// end says how a run came out that is over.
func (s State) end() string {
	word := string(s.Row.State.is())
	if s.Row.Unknown {
		word += " (" + dispatch.ReasonUnknown + ")"
	}
	return fmt.Sprintf("%s, accepted %d times", word, s.Taken)
}

// wrong says which promise does not hold in s; "" where all do.
func (c Config) wrong(s State) string {
	p := c.Policy
	r := s.Row
	asked := c.mayResend()
	switch {
	case s.Event.Processed && (!r.there() || r.open()):
		return "an event is processed whose delivery is not over"
	case r.there() && !r.open() && !s.Event.Processed:
		return "an event is not processed whose delivery is over"
	case r.State == delivered && s.Taken == 0:
		return "delivered, and nobody accepted it"
	case s.Taken > 1 && p.OnUnknown != dispatch.Resend && !asked:
		return "accepted twice, and the policy forbids it"
	case s.Taken > 1 && asked && !c.Liar && !s.stoodStill:
		return "accepted twice, and the list does not lie"
	case s.bare > 1:
		return "accepted more often than faults excuse"
	case r.State == dead && !r.Unknown && s.Taken > 0 && c.trusts(s):
		return "dead, and it was accepted"
	case r.Unknown && p.OnUnknown != dispatch.NeverTwice:
		return "given up as unknown by a policy that does not say so"
	case int(r.Attempts) > c.Limit:
		return "more attempts than are allowed"
	}
	return ""
}

// trusts reports whether dead has to mean, in s, that nobody accepted it: not where
// an attempt before the last one may have arrived and was made again all the same.
func (c Config) trusts(s State) bool {
	switch {
	case c.Policy.OnUnknown == dispatch.Resend:
		return s.bare > 0
	case c.mayResend():
		return !c.Liar && !s.stoodStill
	}
	return true
}

// mayResend reports whether the provider is asked, and the delivery sent again where it
// does not have it.
func (c Config) mayResend() bool {
	return c.Policy.OnUnknown == dispatch.Reconcile && c.Policy.IfNotFound == dispatch.Resend
}

// follows says which state of a delivery may follow which, beside itself.
// docs/ledger.md says what they mean. What is over stays over.
var follows = map[dispatch.State][]dispatch.State{
	"":             {dispatch.Ready, dispatch.Sending, dispatch.Retry, dispatch.Uncertain, dispatch.Held, dispatch.Delivered, dispatch.Dead},
	dispatch.Ready: {dispatch.Sending, dispatch.Retry, dispatch.Uncertain, dispatch.Held, dispatch.Delivered, dispatch.Dead},
	dispatch.Sending: {
		dispatch.Ready, // announced, and nothing left
		dispatch.Retry, dispatch.Uncertain, dispatch.Held, dispatch.Delivered, dispatch.Dead,
	},
	dispatch.Retry: {
		dispatch.Ready, // its turn came, and nothing was begun
		dispatch.Sending, dispatch.Uncertain, dispatch.Held, dispatch.Delivered, dispatch.Dead,
	},
	dispatch.Uncertain: {
		dispatch.Sending, dispatch.Retry, dispatch.Held, dispatch.Delivered, dispatch.Dead,
	},
}

func illegal(from, to Word) string {
	if from == to || slices.Contains(follows[from.is()], to.is()) {
		return ""
	}
	return fmt.Sprintf("%q becomes %q", from.is(), to.is())
}

// canonical is s without what makes no difference any more, and with its listeners
// in one order, since it makes none which of them is which.
func (c Config) canonical(s State) State {
	free := c.Policy.OnUnknown == dispatch.Resend || c.mayResend() // to send again
	if free {
		s.out = 0
	} else {
		s.bare = 0
	}
	s.stoodStill = s.stoodStill && c.mayResend() && !c.Liar
	for w := range s.By {
		l := &s.By[w]
		l.Again = l.Again && l.At == Claimed
		if l.At > Announcing && l.Announced {
			l.Known = true
		}
		if l.At == Recording {
			l.State, l.Attempts = none, 0
			if l.Alone || l.Fenced || l.Outcome != ready {
				l.Known, l.Announced = false, false
			}
			if l.bytes != counted {
				l.bytes = nothing
			}
		}
		if !free {
			l.bytes = nothing
		}
	}
	a, b := s.By[0].key(), s.By[1].key()
	switch order := stdbytes.Compare(a[:], b[:]); {
	case order > 0:
		return s.swapped()
	case order == 0:
		if t := s.swapped(); t.Event.Claim < s.Event.Claim || t.Event.Claim == s.Event.Claim && (t.Row.Claim < s.Row.Claim ||
			t.Row.Claim == s.Row.Claim && (t.eventOf < s.eventOf || t.eventOf == s.eventOf && t.rowOf < s.rowOf)) {
			return t
		}
	}
	return s
}

// key is any order of listeners.
func (l Listener) key() [13]byte {
	var flags byte
	for i, on := range []bool{l.Lease, l.Again, l.Alone, l.Known, l.Nobody, l.Announced, l.Fenced} {
		if on {
			flags |= 1 << i
		}
	}
	return [...]byte{0: byte(l.At), 1: flags, 12: bit(l.Unknown), 2: byte(l.bytes), 3: byte(l.State), 4: byte(l.Attempts), 5: byte(l.Request), 6: byte(l.Verdict),
		7: byte(l.Looks), 8: byte(l.Outcome), 9: byte(l.Tried), 10: byte(l.Parking), 11: byte(l.ParkingTried)}
}

func bit(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func (s State) swapped() State {
	s.By[0], s.By[1] = s.By[1], s.By[0]
	for _, f := range []*Fence{&s.Event.Claim, &s.Row.Claim} {
		switch *f {
		case fence0, successor0:
			*f++
		case fence1, successor1:
			*f--
		}
	}
	for _, of := range []*int8{&s.eventOf, &s.rowOf} {
		if *of >= 0 {
			*of = 1 - *of
		}
	}
	return s
}

// broken ends an exploration at node i.
func (c Config) broken(res Result, nodes []node, i int32, why string) Result {
	res.States, res.Broken = len(nodes), why
	var lines []string
	for ; i > 0; i = nodes[i].from {
		n := nodes[i]
		who := "        "
		if n.by >= 0 {
			who = fmt.Sprintf("%d of %+v", n.by, nodes[n.from].state.By[n.by].At)
		}
		lines = append(lines, fmt.Sprintf("%-12s %-40s row %s/%d, event processed %t, taken %d", who, n.act,
			n.state.Row.State.is(), n.state.Row.Attempts, n.state.Event.Processed, n.state.Taken))
	}
	slices.Reverse(lines)
	res.Trace = strings.Join(lines, "\n")
	return res
}
