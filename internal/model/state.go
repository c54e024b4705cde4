// Package model is the protocol by which listeners share deliveries, small
// enough that all of it can be looked at: two listeners, one event with one
// delivery, one provider. Explore goes through every state that any interleaving
// of their steps can reach, crashes and pauses included, and holds each against
// what docs/guarantees.md promises.
//
// What decides is the real code: dispatch.Decide after an attempt, dispatch.Judge
// and dispatch.Settle after a look, the states and policies of package dispatch.
// What is retold here, step by step and in the same order, is package listener (which
// step follows which, and what is checked before it) and the statements in
// sql/queries (what each asks for before it writes). Names in comments say which.
package model

import "github.com/outbox-listener/outbox-listener/dispatch"

// listeners is how many there are.
const listeners = 2

// Fence is the value of a column claim. Each claim of the real protocol is a uuid of
// its own; what matters is only whose it is, as long as anybody lives who remembers
// it. So a claim whose holder forgot it is Gone, whoever it was.
type Fence int8

// The fences. Listener w has Fence(w) while it holds something, and
// Fence(w).successor() once that is on record (listener/lease.go).
const (
	NoFence Fence = iota - 1
	fence0
	fence1
	successor0
	successor1
	Gone
)

func (f Fence) successor() Fence { return f + listeners }

// Lease says how far lease_until, or due_at, is.
type Lease uint8

// The leases. Of an event Later does not occur in the model, where each can be planned; of a delivery Parked does not.
const (
	Never  Lease = iota // null
	Live                // until the lease of its holder runs out
	Later               // until some time that has nothing to do with a lease
	Over                // in the past
	Parked              // infinity: its delivery goes on by itself
)

// Event is the row of the event.
type Event struct {
	Processed bool
	Lease     Lease
	Claim     Fence
}

// Row is the row of the delivery in the ledger.
type Row struct {
	State    Word // none: there is no row
	Attempts int8
	Due      Lease
	Claim    Fence
	Looks    int8 // answers to looks for the present attempt
	Found    bool // provider_id is known
	Unknown  bool // dead, and the reason begins with dispatch.ReasonUnknown
}

// Word is a state of a delivery in one byte.
type Word uint8

// words are the states by their Word. The first is that of a delivery without a row.
var words = []dispatch.State{"", dispatch.Scheduled, dispatch.Ready, dispatch.Sending, dispatch.Retry, dispatch.Uncertain,
	dispatch.Held, dispatch.Delivered, dispatch.Dead, dispatch.Expired, dispatch.Canceled, dispatch.Skipped}

const none Word = 0

func word(s dispatch.State) Word {
	for i, w := range words {
		if w == s {
			return Word(i)
		}
	}
	panic("no such state: " + string(s))
}

// The words that the model names.
var (
	ready     = word(dispatch.Ready)
	sending   = word(dispatch.Sending)
	uncertain = word(dispatch.Uncertain)
	held      = word(dispatch.Held)
	delivered = word(dispatch.Delivered)
	dead      = word(dispatch.Dead)
)

func (w Word) is() dispatch.State { return words[w] }
func (r Row) there() bool         { return r.State != none }
func (r Row) open() bool          { return r.there() && !r.State.is().Terminal() }

// Place is where a listener is in its program.
type Place uint8

// The places, in the order of listener/pool.go and listener/attempt.go.
const (
	Idle       Place = iota
	Claimed          // has an event, not planned
	Freezing         // freeze_events.sql is under way
	Turn             // the delivery has its turn: attempt
	Announcing       // announce_new.sql or announce_again.sql is under way
	Checking         // the last look at the lease comes next
	Poised           // between that and the first byte
	Waiting          // for the answer
	Looking          // the provider is to be asked whether it has it
	Noting           // note_look.sql is under way
	Recording        // the outcome is to be written
)

// Request is what became of the bytes that a listener waits for an answer to.
type Request uint8

// The requests.
const (
	NoRequest Request = iota
	UnderWay
	Accepted
	Refused // rejected: it never will be taken
	Busy    // throttled or down: not taken
)

// Listener is what one of them remembers, and nothing that a crash leaves.
type Listener struct {
	At     Place
	Lease  bool // it is not over on the listener's own clock, and no renewal found it taken over
	Again  bool // the event was claimed before
	Alone  bool // the delivery is recorded by itself: record_deliveries.sql
	Known  bool // job.known: there was a row when it was taken
	Nobody bool // there is nothing to do for the event: its delivery is over
	Fenced bool // event.fenced: its event was taken over before it was parked

	State     Word // job.state, the ledger's when it was taken: sending, uncertain, or ready for whatever else is to be sent
	Attempts  int8 // job.attempts
	Announced bool // job.announced
	Request   Request

	Verdict int8 // index into verdicts, of a look that is to be noted
	Looks   int8 // answers before it

	Outcome Word // job.outcome
	Tried   int8 // Outcome.Attempts
	Unknown bool // its reason begins with dispatch.ReasonUnknown

	Parking      Word // what record_events.sql is about to write of the delivery, of an event that is parked; none: nothing is
	ParkingTried int8

	bytes bytes // what it has at the provider that is not on record
}

// bytes are what became of the bytes of one attempt, for the checks. What a fault came
// upon has an excuse for being there twice.
type bytes uint8

const (
	nothing bytes = iota
	left          // maybe to be accepted yet
	counted       // accepted, and counted as bare
	excused
)

// verdicts are those of package dispatch, by Listener.Verdict.
var verdicts = []dispatch.Verdict{dispatch.VerdictFound, dispatch.VerdictNotThere, dispatch.VerdictInconclusive, dispatch.VerdictFailed}

// State is all there is at one moment.
type State struct {
	Event Event
	Row   Row
	By    [listeners]Listener

	Adrift int8 // requests under way whose answer nobody waits for any more; that many or more
	Taken  int8 // what the provider accepted, and has in its list; capped

	// What nobody in the protocol knows, for the checks.
	eventOf, rowOf int8 // who claimed it last; -1: nobody that lives
	out            int8 // submissions that were not answered with no
	bare           int8 // acceptances upon whose attempt no fault came before its record
	stoodStill     bool // a lease ran out between the last look at it and the first byte
}

// add counts up to most. A counter that is there says "most or more".
func add(n *int8, most int8) { *n = min(*n+1, most) }

// start is a committed event that nobody has seen.
func start() State {
	s := State{eventOf: -1, rowOf: -1}
	s.Event.Claim, s.Row.Claim = NoFence, NoFence
	return s
}
