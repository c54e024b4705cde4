//go:build unix

package faultrig

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Plan is everything about a run that its seed decides.
type Plan struct {
	Seed         uint64
	Lease        time.Duration // of the listeners, for what they claim; 1 s is the shortest that they take
	Daemons      int
	Batch        int             // OUTBOX_BATCH_SIZE of them all
	Workers      int             // OUTBOX_WORKERS
	ListLies     bool            // Twilio's list of messages does not have any
	Skews        []time.Duration // by how much the wall clock of each daemon's host is off
	First        []string        // OUTBOX_FAILPOINT of each daemon's first process; "" for none
	Transactions []Transaction
	Faults       []Planned
}

// Transaction is one of a producer.
type Transaction struct {
	Begin    time.Duration // after the start of the run
	Hold     time.Duration // between its insert and its end
	Rollback bool
	Events   []Event
}

// Event is one row that a producer inserts.
type Event struct {
	ID   uuid.UUID
	Type string
}

// types are those of events, with the channels that each goes to.
var types = map[string][]string{
	"sms.send":     {"sms"},
	"email.send":   {"email"},
	"webhook.send": {"webhook"},

	// By routes.yaml:
	"order.placed":   {"sql", "webhook", "email"},
	"alarm.raised":   {"sms"},
	"visit.tomorrow": {"sms"},
	"note.written":   {"webhook"}, // in the words of a model
	stepTaken:        {"webhook"}, // one after the other of its line
	heldHook:         {"webhook"},
	onceHook:         {"webhook"},
	heldMail:         {"email"},
	onceMail:         {"email"},
	request:          {"http"},
}

// stepTaken is the type of events that are in order.
const stepTaken = "step.taken"

// line is that in which an event of that type stands.
func (e Event) line() string { return fmt.Sprintf("line %d", e.ID[15]%3) }

// What follows of an SMS whose outcome nobody knows: Twilio is asked and a
// person decides where it does not have it, unless the type of its event is one of
// these.
const (
	neverTwice    = "alarm.raised"   // it is given up
	resendMissing = "visit.tomorrow" // Twilio is asked, and it is sent again where it is not there
)

// Events whose delivery is not sent again where nobody knows whether it arrived.
const (
	heldHook = "parcel.sent"        // a person decides
	onceHook = "invoice.issued"     // it is given up
	heldMail = "letter.written"     // a person decides
	onceMail = "password.forgotten" // it is given up
	request  = "contact.added"      // of a kind that may not be repeated: a person decides
)

// mayBeHeld says whether deliveries of events of this type wait for a person where nobody knows
// whether they arrived; an SMS does where Twilio does not have it.
func mayBeHeld(typ string) bool {
	return slices.Contains([]string{"sms.send", resendMissing, heldHook, heldMail, request}, typ)
}

// mayBeGivenUp says whether such deliveries are dead.
func mayBeGivenUp(typ string) bool {
	return slices.Contains([]string{neverTwice, onceHook, onceMail}, typ)
}

// sentOnce says whether nothing may follow a request that may have been taken.
func sentOnce(typ string) bool {
	return mayBeGivenUp(typ) || slices.Contains([]string{heldHook, heldMail, request}, typ)
}

// Kind is a kind of fault.
type Kind string

// The kinds of faults of a plan.
const (
	Kill            Kind = "SIGKILL"
	KillAll         Kind = "SIGKILL of all"
	Stop            Kind = "SIGSTOP past the lease"
	RestartFast     Kind = "server restart, fast"
	RestartCrash    Kind = "server restart, as a crash"
	CutDatabase     Kind = "connections to the database reset"
	SwallowDatabase Kind = "connections to the database half-open"
	LimitDatabase   Kind = "an answer of the database cut"
	SlowDatabase    Kind = "database far away"
	CutProvider     Kind = "connections to a provider reset"
	SwallowProvider Kind = "connections to a provider half-open"
	LimitProvider   Kind = "an answer of a provider cut"
	SlowProvider    Kind = "provider far away"
	Terminate       Kind = "SIGTERM"
	TerminateAway   Kind = "database away from before a SIGTERM to after it"
	Failpoint       Kind = "failpoint"
)

// farAway is how long what a provider far away is sent, or answers, is under way.
const farAway = 200 * time.Millisecond

// Slow is a fault that no plan has: see run.watch.
const Slow Kind = "machine or disk too slow"

// Planned is a fault that the nemesis has in mind.
type Planned struct {
	At     time.Duration // after the start of the run
	For    time.Duration // how long it lasts, or how long what was killed stays down
	Kind   Kind
	Target int    // daemon, modulo their number, or provider: by channels, and len(channels) is the model
	Bytes  int    // of the answer that is cut
	Point  string // OUTBOX_FAILPOINT of the process that follows the kill, for Failpoint, or that is told to end, for Terminate and TerminateAway
	Next   string // OUTBOX_FAILPOINT of the process after that, for TerminateAway
}

// The points that a run may die at, with how often each is reached until then at
// most.
var failpoints = []struct {
	name string
	most int
}{
	{"K1", 1}, {"K2", 6}, {"K3", 20}, {"K4", 20}, {"K5", 10}, {"K6", 15}, {"K7", 15}, {"K8", 15}, {"K9", 20},
	{"K10", 8}, {"K11", 20}, {"K12", 30}, {"K13", 1}, {"K14a", 1}, {"K14b", 1}, {"K15", 3}, {"K18", 1},
	{"K16a", 8}, {"K16b", 8}, {"K16c", 8}, {"K16d", 8}, {"K16e", 8}, {"K16f", 8},
}

// slack is how far apart two moments may be noted that belong together, on a machine that
// does other things too.
func (p Plan) slack() time.Duration { return p.Lease * 3 / 4 }

// lookSpan is how long looks for an SMS go on, of the minute that they go on
// otherwise: longer than any listener stands still by the plan, as that minute is
// longer than a listener may stand still.
func (p Plan) lookSpan() time.Duration { return 2*p.Lease + 2*time.Second }

// NewPlan makes the plan of a seed, with at least this many events that are
// meant to be committed.
func NewPlan(seed uint64, events int, lease time.Duration) Plan {
	r := rand.New(rand.NewPCG(seed, 0x0b0c))
	upTo := func(d time.Duration) time.Duration { return upToOf(r, d) }
	p := Plan{Seed: seed, Lease: lease, Daemons: 1 + r.IntN(3), ListLies: seed%8 == 0}

	const producing = 3 * time.Second
	for committed := 0; committed < events+events/10; { // some commits end with the server
		t := Transaction{Begin: upTo(producing), Rollback: r.IntN(5) == 0}
		for range 1 + r.IntN(5) {
			t.Events = append(t.Events, Event{ID: id(r), Type: often[r.IntN(len(often))]})
		}
		if r.IntN(10) == 0 {
			t.Hold = 300*time.Millisecond + upTo(1200*time.Millisecond)
		}
		if !t.Rollback {
			committed += len(t.Events)
		}
		p.Transactions = append(p.Transactions, t)
	}

	// The first process of the first daemon goes through the points from one seed
	// to the next, so that a row of seeds has them all.
	n := len(failpoints)
	p.First = make([]string, p.Daemons)
	p.First[0] = failpoint(r, int(seed%uint64(n)), actions[seed/uint64(n)%uint64(len(actions))])

	// Hosts whose clocks are right, an hour fast and an hour slow, where that can be.
	p.Skews = make([]time.Duration, p.Daemons)
	for i := range p.Skews {
		if canShiftClocks {
			p.Skews[i] = []time.Duration{0, time.Hour, -time.Hour}[(seed+uint64(i))%3]
		}
	}

	kinds := []Kind{Kill, Stop, Terminate, CutDatabase, LimitProvider, Failpoint, Failpoint}
	kinds = append(kinds, []Kind{RestartFast, RestartCrash}[r.IntN(2)])
	for range 2 {
		kinds = append(kinds, []Kind{Kill, KillAll, SwallowDatabase, LimitDatabase, SlowDatabase, CutProvider, SwallowProvider, Failpoint, TerminateAway}[r.IntN(9)])
	}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	const first, last = 400 * time.Millisecond, producing
	for i, k := range kinds {
		f := Planned{
			At:  first + (last-first)*time.Duration(i)/time.Duration(len(kinds)) + upTo(300*time.Millisecond),
			For: upTo(400 * time.Millisecond), Kind: k, Target: r.IntN(12),
		}
		switch k {
		case Stop:
			f.For = lease + 300*time.Millisecond + upTo(lease)
		case SwallowDatabase, SwallowProvider, SlowDatabase:
			f.For = 300*time.Millisecond + upTo(lease)
		case LimitDatabase, LimitProvider:
			f.Bytes = r.IntN(200)
		case Terminate:
			if r.IntN(2) == 0 {
				f.Point = "K17=" + actions[r.IntN(len(actions))]
			}
			f.For = 200*time.Millisecond + upTo(500*time.Millisecond)
		case TerminateAway:
			f.Point, f.Next = spoolPoints(r)
			f.For = 20*time.Millisecond + upTo(200*time.Millisecond)
		case Failpoint:
			f.Point = failpoint(r, r.IntN(n), actions[r.IntN(len(actions))])
		}
		if slices.Contains([]Kind{CutProvider, SwallowProvider, LimitProvider}, k) {
			f.Target %= len(channels)
		}
		p.Faults = append(p.Faults, f)
	}

	// From a generator of their own, so that what else a seed decides stays what it
	// was before there were these.
	r = rand.New(rand.NewPCG(seed, 0xba7c))
	p.Batch, p.Workers = batches[r.IntN(len(batches))], workers[r.IntN(len(workers))]

	// And one more for what came later still: a provider that is far away, or a model that something happens to.
	r = rand.New(rand.NewPCG(seed, 0xfa12))
	late := Planned{At: first + upToOf(r, last-first), For: 300*time.Millisecond + upToOf(r, lease), Kind: SlowProvider, Target: r.IntN(len(channels))}
	if r.IntN(2) == 0 {
		late.Target, late.Kind = len(channels), []Kind{SlowProvider, CutProvider, SwallowProvider, LimitProvider}[r.IntN(4)]
	}
	if late.Kind == LimitProvider {
		late.Bytes = r.IntN(200)
	}
	p.Faults = append(p.Faults, late)
	return p
}

func upToOf(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// What a plan draws from: the defaults, and what is far from them. With batches of
// 1 each event is a claim of its own; with 1000 one claim may have all there is, and
// a listener that dies leaves it all to be taken over.
var (
	batches = []int{1, 10, 1000}
	workers = []int{8, 32}
)

// often are the types of events, as often as they come.
var often = []string{
	"sms.send", "sms.send", neverTwice, resendMissing,
	"email.send", "email.send", "webhook.send", "webhook.send", "order.placed", "note.written",
	stepTaken, stepTaken,
	heldHook, onceHook, heldMail, onceMail, request,
}

// channels are those with a provider, but for models: what is asked of one arrives nowhere.
var channels = []string{"sms", "email", "webhook", "http"}

// models is the channel of faults that come upon a model.
const models = "openai"

// actions of failpoints, the first as often as the others together.
var actions = []string{"kill", "stop", "kill", "panic"}

func failpoint(r *rand.Rand, i int, action string) string {
	return fmt.Sprintf("%s=%s@%d", failpoints[i].name, action, 1+r.IntN(failpoints[i].most))
}

// spoolPoints are where the two processes die that have to do with what a stop
// could not record: one keeps it, the next one records it. In two of five cases
// neither does.
func spoolPoints(r *rand.Rand) (keeps, records string) {
	action := actions[r.IntN(len(actions))]
	switch r.IntN(5) {
	case 0, 1:
		return "", ""
	case 2:
		return "K20a=" + action, ""
	}
	return "", "K20b=" + action
}

// id is a UUID of version 4 that r makes.
func id(r *rand.Rand) (u uuid.UUID) {
	binary.BigEndian.PutUint64(u[:8], r.Uint64())
	binary.BigEndian.PutUint64(u[8:], r.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// String says what will happen, one fault a line.
func (p Plan) String() string {
	var b strings.Builder
	n := 0
	for _, t := range p.Transactions {
		n += len(t.Events)
	}
	fmt.Fprintf(&b, "seed %d, leases of %s: %d daemons with batches of %d and %d workers, %d events in %d transactions",
		p.Seed, p.Lease, p.Daemons, p.Batch, p.Workers, n, len(p.Transactions))
	if p.ListLies {
		b.WriteString("; Twilio's list of messages is empty")
	}
	for i, by := range p.Skews {
		if by != 0 {
			fmt.Fprintf(&b, "; the clock of daemon %d is %s off", i, by)
		}
	}
	for i, f := range p.First {
		if f != "" {
			fmt.Fprintf(&b, "\n  0s: daemon %d starts with %s", i, f)
		}
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&b, "\n  %s: %s, target %d, for %s", f.At.Round(time.Millisecond), f.Kind, f.Target, f.For.Round(time.Millisecond))
		if f.Bytes > 0 {
			fmt.Fprintf(&b, ", after %d bytes", f.Bytes)
		}
		if f.Point != "" {
			fmt.Fprintf(&b, ", %s", f.Point)
		}
		if f.Next != "" {
			fmt.Fprintf(&b, ", then %s", f.Next)
		}
	}
	return b.String()
}
