package listener

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// event is one event under a lease, from its claim until its outcome is on
// record or its deliveries have gone on by themselves.
type event struct {
	dispatch.Event
	seq    int64
	lease  *lease
	again  bool   // claimed before: the ledger may know some of its deliveries
	ranOut bool   // and that lease ran out on somebody
	putOff bool   // or it was put off since, and nobody had it
	poison string // why it is not tried any more; "" otherwise
	tally  *tally

	unplanned int           // plans that failed
	absence   time.Duration // that it is given back for; 0: it is free at once
	crashes   int           // listeners that ended while they had it, as far as that was counted

	tenure
	over atomic.Bool // counted as done, or let go

	mu      sync.Mutex
	jobs    []*job
	left    int       // jobs without outcome; once it is parked, jobs not on record
	begun   time.Time // when a worker took it; zero before
	parked  bool      // its jobs are recorded one by one
	parking bool      // the record of its parking is under way
	fenced  bool      // it was taken over before it was parked, and its deliveries with it
	handed  bool      // all of it is with the recorder, or given back
	after   []*job    // finished meanwhile; recorded once it is

	asParked []row // how its parking is to be recorded while that is under way

	load load
}

// job is one delivery on its way to an outcome.
type job struct {
	dispatch.Delivery
	seq        int64
	generation int
	attempts   int            // attempts before this one
	state      dispatch.State // where the ledger has it; "" when it has no row yet
	known      bool           // it had a row in the ledger when we took it
	lastError  string
	lease      *lease
	event      *event // nil for a delivery that is on its own
	tally      *tally

	line string // that it stands in, as the ledger has it; "" for none, and before it does

	expired bool // its deadline has passed
	ranOut  bool // somebody had it, and their lease ran out

	condemned bool // it brought listeners down, and ends without another try

	destination string    // where it goes; "" where there is nothing to send
	concurrency int       // most attempts at once there; 0: as many as there are workers for
	rate        Rate      // how fast may be sent there
	provider    string    // what brakes know it by; "" where nothing brakes it, or it is not known yet
	aside       bool      // it was braked when its turn came: it is put off
	probe       bool      // it tries whether its destination takes something again
	probing     time.Time // since when, or a moment later

	load load // where it is on its own

	// Its place among the attempts under way there, guarded by the queue.
	flying         bool
	flyingSince    time.Time
	earlier, later *job

	tenure
	over      atomic.Bool // counted as done, or let go, where it is on its own
	recording atomic.Bool // it is recorded by itself, or given back: that says whether it was ours

	// Guarded by event.mu where there is an event.
	blocked    bool   // it waits for a step that is to be delivered yet
	afterLater bool   // and that one is for later
	announced  bool   // the ledger was asked to have it as "sending"
	begun      bool   // an attempt was started
	broken     bool   // a panic left it without an outcome: it is left to its lease
	found      string // what it is known to be at the provider, by a look or a report; "" before

	counted string // the number that it counts for under SMSLimits, since it is about to be sent; "" where it does not

	redirected bool // it went to somebody else; see Config.Redirect
	withheld   bool // it may not be sent to whom it is for
	paused     bool // it is not sent for the time being

	judged   *dispatch.Standing // of what it is sent instead of, when that was last asked
	hushed   bool               // others that failed there within a second were logged
	repeated int                // failures before it that were not

	likeness *int32           // what it is alike by; nil where its provider cannot be asked
	idle     bool             // it ended without anything having been begun
	looked   dispatch.Verdict // what a look came to; "" where there was none

	outcome *dispatch.Outcome // nil until it is over
	first   dispatch.Outcome  // where the first stands, which rows may keep: never changed
	took    time.Duration
	wait    time.Duration // until it is due again, where it is not finished
}

// load is what an event, or a delivery on its own, keeps in memory while it is
// held. Guarded by the queue.
type load struct {
	bytes int  // of its payload, and once it is planned of its contents
	giant bool // its payload stayed behind in the claim and was read since
}

// terms returns what its route says about j.
func (j *job) terms() *dispatch.Terms {
	if j.Terms == nil {
		return &noTerms
	}
	return j.Terms
}

var noTerms dispatch.Terms

// waiting reports whether j has to wait for other steps before it is rendered.
func (j *job) waiting() bool {
	return len(j.terms().After) > 0 && j.Content == nil && j.Skip == "" && j.Refused == ""
}

// settled is the outcome of j where its message says that nothing is to be sent.
func (j *job) settled() (dispatch.Outcome, bool) {
	switch {
	case j.Skip != "":
		return dispatch.Outcome{State: dispatch.Skipped, Reason: j.Skip, Attempts: j.attempts}, true
	case j.Refused != "":
		return dispatch.Outcome{State: dispatch.Dead, Reason: j.Refused, Attempts: j.attempts}, true
	}
	return dispatch.Outcome{}, false
}

// awaited reports whether a caller of Drain or Once waits for j.
func (j *job) awaited() bool { return j.tally != nil || j.event != nil && j.event.tally != nil }

// deliveryID makes the id of a delivery: the same whoever plans it, so that a
// receiver recognises a second try. It is a version 8 UUID (RFC 9562, section
// 5.8) of 48 bits of seq, so that new ones go to the end of the index, and
// 74 bits of SHA-256 over what makes the delivery this one.
func deliveryID(seq int64, ev uuid.UUID, m *dispatch.Message, generation int) uuid.UUID {
	buf := make([]byte, 0, 256)
	buf = append(buf, ev[:]...)
	for _, s := range [...]string{m.Route, m.Step, m.Recipient} {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	if m.Item != "" {
		buf = append(binary.BigEndian.AppendUint64(buf, uint64(len(m.Item))), m.Item...)
	}
	buf = binary.BigEndian.AppendUint64(buf, uint64(generation))
	sum := sha256.Sum256(buf)
	return placed(sum[:], seq)
}

// placed makes a UUID of version 8 of the 48 bits of seq and of sum.
func placed(sum []byte, seq int64) (id uuid.UUID) {
	copy(id[:], sum)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(seq))
	copy(id[:6], n[2:])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
