package listener

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

const (
	failedInRow   = 5           // attempts without an answer, one after the other, that brake a destination
	deferredInRow = 25          // attempts that a mail server put off and did not say why, one after the other: it is not about this or that mailbox any more
	probeEvery    = time.Second // how often one may try while it is braked, of all listeners; as ask_probe.sql has it
	probeMost     = time.Minute // how long one that tries keeps others of ours from it: an answer may take as long as a mail server likes
	firstSlot     = time.Second // when the first of what is put off comes back
	brakeTrust    = time.Hour   // the longest that something is put off for until its provider wants to be asked
	brakeStale    = time.Hour   // after which a brake that nobody wanted to pass is forgotten; as forget_brakes.sql has it
)

// HeldBy is what the ledger has as the reason of a delivery that waits for a
// braked destination. What is wrong there stands in outbox.brakes: this must be the
// same whoever puts the delivery off, so that all of them are found when it is over.
func HeldBy(destination string) string {
	return "waits for " + destination + ", where nothing is sent at the moment"
}

// slowBy is the reason of one that was put off since its destination takes long to answer, where
// it waited for a brake before.
func slowBy(destination string) string {
	return "waits for " + destination + ", which takes long to answer"
}

// brake keeps deliveries from one destination for the time being. The database
// has it, for all listeners; this is what one of them knows.
type brake struct {
	until   time.Time // nothing is sent before
	probeAt time.Time // when one may try, as far as is known
	probing time.Time // since when one of ours tries, or asks whether it may; zero: none does
	slot    time.Time // when the last one that we put off comes back
	noted   time.Time // when the database was last known to have it; zero: never yet
}

// shut reports whether nothing of ours may try now.
func (b *brake) shut(now time.Time) bool {
	return now.Sub(b.probing) < probeMost || now.Before(b.until) || now.Before(b.probeAt)
}

// wait says how long the next one is put off that comes upon b: each a second
// longer than the one before, so that about one a second is there to try, up to
// pausedFor. Then it does not matter any more. Nothing is put off for longer than
// brakeTrust beyond that: whoever was to make it due may have ended before.
func (b *brake) wait(now time.Time) time.Duration {
	opens := latest(now, b.until)
	if most := now.Add(brakeTrust); opens.After(most) {
		opens = most
	}
	slot := latest(b.slot.Add(probeEvery), opens, now.Add(firstSlot))
	if slot.Sub(opens) > pausedFor {
		return jittered(pausedFor) + opens.Sub(now)
	}
	b.slot = slot
	return slot.Sub(now)
}

func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// record is how attempts at one destination went of late.
type record struct {
	failed   int       // without an answer, since the last one
	deferred int       // not taken for now, and maybe for a reason of their own, since the last answer
	heard    time.Time // when one was last answered
	line     time.Time // when a failure was last logged
	silent   int       // failures since then that were not
}

// put is a brake that the database is yet to be told of.
type put struct {
	reason   string
	failures int
	until    time.Time
	waiting  []chan struct{} // each is closed once the database has been told of it
}

// brakes are the destinations where nothing is sent for the time being.
type brakes struct {
	some atomic.Bool   // one is on: what is asked for each delivery
	wake chan struct{} // readable when there is something to tell the database
	free chan struct{} // readable when something is over

	mu      sync.Mutex
	on      map[string]*brake
	records map[string]*record
	puts    map[string]put
	ends    map[string]bool      // to be released
	gone    map[string]time.Time // released of late: what was read before is older
	stale   bool                 // some of them are
	asked   time.Time            // when the last reading was sent off that came back
	over    []string             // released, and what waited is to be made due
	slow    int                  // tries to tell the database, one after the other, that took too long
}

func newBrakes() *brakes {
	return &brakes{
		wake: make(chan struct{}, 1), free: make(chan struct{}, 1), on: map[string]*brake{}, records: map[string]*record{}, puts: map[string]put{},
		ends: map[string]bool{}, gone: map[string]time.Time{},
	}
}

// has reports whether destination is braked, as far as is known.
func (bs *brakes) has(destination string) bool {
	if !bs.some.Load() {
		return false
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.on[destination] != nil
}

// shut reports whether it is, and none of ours may try now.
func (bs *brakes) shut(destination string) bool {
	if !bs.some.Load() {
		return false
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b := bs.on[destination]
	return b != nil && b.shut(time.Now())
}

// pass is what becomes of a delivery that would be sent to a destination.
type pass int

const (
	free   pass = iota // it is sent
	asks               // the database is to be asked whether it may try
	putsBy             // it is put off
)

// pass says what becomes of a delivery to destination, and for how long it is put
// off. Where it asks, probed must be called in the end.
func (bs *brakes) pass(destination string, aside bool) (pass, time.Duration) {
	if !bs.some.Load() && !aside {
		return free, 0
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b, now := bs.on[destination], time.Now()
	switch {
	case b == nil && aside:
		return putsBy, 0 // it must not pass others by
	case b == nil:
		return free, 0
	case aside || b.shut(now):
		return putsBy, b.wait(now)
	}
	b.probing = now
	return asks, 0
}

// refused notes what the database said to one that asked, and says how long that
// is put off.
func (bs *brakes) refused(destination string, until, probe time.Duration) time.Duration {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b, now := bs.on[destination], time.Now()
	if b == nil {
		return firstSlot
	}
	b.probing = time.Time{}
	b.until, b.probeAt = latest(b.until, now.Add(until)), latest(b.probeAt, now.Add(probe))
	return b.wait(now)
}

// granted notes that one of ours tries.
func (bs *brakes) granted(destination string) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b := bs.on[destination]; b != nil {
		b.probeAt = time.Now().Add(probeEvery)
	}
}

// probed notes that the one which tried since, or a moment before, is over.
func (bs *brakes) probed(destination string, since time.Time) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if b := bs.on[destination]; b != nil && !b.probing.After(since) { // and not another's, which it kept back for long
		b.probing = time.Time{}
	}
}

// mostRecords is how many destinations are remembered that are not braked.
const mostRecords = 1000

func (bs *brakes) record(destination string) *record {
	r := bs.records[destination]
	if r == nil {
		if len(bs.records) >= mostRecords {
			clear(bs.records) // what is counted begins anew
		}
		r = &record{}
		bs.records[destination] = r
	}
	return r
}

// answered notes that an attempt was, with yes or no, and reports whether that ends
// a brake: where it was one that tried.
func (bs *brakes) answered(destination string, probe bool) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	r := bs.record(destination)
	r.failed, r.deferred, r.heard = 0, 0, time.Now()
	if probe && bs.on[destination] != nil {
		bs.ends[destination] = true
		signal(bs.wake)
	}
}

// notTaken notes a reply that by itself is about one delivery, and reports whether it still counts as
// that: so many in a row are about the destination, whatever each of them says. It ends no brake: the
// next one that tries is another delivery, and may be taken.
func (bs *brakes) notTaken(destination string, probe bool) bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	r := bs.record(destination)
	r.deferred++
	if r.deferred >= deferredInRow {
		r.failed = max(r.failed, failedInRow)
		return false
	}
	if !probe {
		r.failed, r.heard = 0, time.Now()
	}
	return true
}

// failed notes that an attempt that was begun at that moment had no answer, or the
// wish to be left alone for a while. It reports whether that brakes its destination, where
// it was not braked before. told is closed once that wish is on record; nil: there was none.
func (bs *brakes) failed(destination string, probe bool, begun time.Time, err *dispatch.Error) (braked bool, told <-chan struct{}) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	r := bs.record(destination)
	if begun.After(r.heard) { // what an answer came after says nothing of now
		r.failed++
	}
	var wait time.Duration
	if err.Kind != dispatch.Rejected { // also where it is open whether it has this one
		wait = min(err.RetryAfter, dispatch.MaxRetryAfter)
	}
	if wait <= 0 && r.failed < failedInRow && !probe {
		return false, nil
	}
	return bs.put(destination, reasonOf(err), wait)
}

// put brakes destination, for so long at least, and has the database told of it. What it returns is as
// failed says. The caller holds mu.
func (bs *brakes) put(destination, reason string, wait time.Duration) (braked bool, told <-chan struct{}) {
	p, now := bs.puts[destination], time.Now()
	p.reason, p.failures, p.until = reason, p.failures+1, latest(p.until, now.Add(wait))
	if wait > 0 {
		waiting := make(chan struct{})
		p.waiting, told = append(p.waiting, waiting), waiting
	}
	b := bs.on[destination]
	if braked = b == nil; braked {
		b = &brake{probeAt: now.Add(probeEvery)}
		bs.on[destination] = b
		bs.some.Store(true)
	}
	b.until = latest(b.until, p.until)
	bs.puts[destination] = p
	delete(bs.ends, destination)
	signal(bs.wake)
	return braked, told
}

// restore puts on what was asked for before an earlier stop. What it returns are closed once that is on record.
func (bs *brakes) restore(pauses []spooledWish) (told []<-chan struct{}) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, w := range pauses {
		if _, one := bs.put(w.Destination, w.Reason, fromSeconds(w.Seconds)); one != nil {
			told = append(told, one)
		}
	}
	return told
}

// hush reports whether a failure at a destination is not logged, since another was less than a
// second ago, and how many before it were not; whether what failed was an answer or none.
func (bs *brakes) hush(destination string) (hushed bool, repeated int) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	now := time.Now()
	r := bs.record(destination)
	if now.Sub(r.line) < time.Second {
		r.silent++
		return true, 0
	}
	repeated, r.silent, r.line = r.silent, 0, now
	return false, repeated
}

// reasonOf is what people are told of err.
func reasonOf(err *dispatch.Error) string {
	s := clean(dispatch.MaskText(err.Error()))
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// spoke reports whether err, the end of an attempt, is a word of a service that works.
func spoke(err *dispatch.Error) bool {
	return err == nil || err.Kind == dispatch.Rejected || err.Alone ||
		err.Channel != dispatch.ChannelEmail && err.Status/100 == 2 // an answer that is of no use
}

// aboutOne reports whether err is a mail server's reply that may be about one mailbox or message (RFC 5321,
// section 4.2.3), and not what it says of itself: 4.3.x, its system status (RFC 3463, section 3.4), and a
// 452 without such a code, no room.
func aboutOne(err *dispatch.Error) bool {
	own := strings.HasPrefix(err.Code, "4.3.") || err.Status == 452 && err.Code == ""
	return err.Channel == dispatch.ChannelEmail && !own && (err.Status == 450 || err.Status == 451 || err.Status == 452)
}

// verdictOf says what came of an attempt that ended with err.
func verdictOf(err *dispatch.Error) verdict {
	if err == nil || err.Kind == dispatch.Rejected {
		return answered
	}
	return unanswered
}

// heed takes in what an attempt at j, or a look for it, says about where it goes. What a provider asks
// for, to be left alone for a while, is on record when it returns: the outcome is to follow that,
// and never to stand alone, since whoever died between the two would have others call meanwhile. That is
// waited for no longer than pauseFirst.
func (l *Listener) heed(j *job, begun time.Time, err *dispatch.Error) verdict {
	var told <-chan struct{}
	switch {
	case j.provider == "":
	case spoke(err):
		l.brakes.answered(j.provider, j.probe)
	case aboutOne(err) && l.brakes.notTaken(j.provider, j.probe):
	default:
		var braked bool
		if braked, told = l.brakes.failed(j.provider, j.probe, begun, err); braked {
			l.queue.divert(j.provider)
		}
	}
	if told != nil {
		select {
		case <-told:
		case <-time.After(pauseFirst):
		}
	}
	l.hush(j, err) // last, since its line is written now
	return verdictOf(err)
}

// pauseFirst is how long an outcome waits for the pause that it asks for: until that was tried twice, where the first try
// takes too long (see tellSoon). A database that takes neither takes no outcome either, most likely; and a worker is
// not to be kept from others for longer.
const pauseFirst = 2 * time.Second

// hush has a failure of j logged only where no other was within a second: of its destination, or of
// its channel where nothing brakes that.
func (l *Listener) hush(j *job, err *dispatch.Error) {
	if err == nil || err.Kind == dispatch.Rejected { // that is the end of j, and has a line
		return
	}
	where := j.provider
	if where == "" {
		where = string(j.Channel)
	}
	j.hushed, j.repeated = l.brakes.hush(where)
}

// braked reports whether j must not be sent where it goes, and has put it off then: it
// stays as it is, uncounted.
func (l *Listener) braked(ctx context.Context, j *job) bool {
	what, wait := l.brakes.pass(j.provider, j.aside)
	switch what {
	case free:
		return false
	case asks:
		j.probe, j.probing = true, time.Now()
		a, err := l.store.askProbe(ctx, j.provider)
		switch {
		case err != nil:
			l.sparse.warn("whether one may try a destination that is braked is not known", err)
			wait = l.brakes.refused(j.provider, 0, probeEvery)
		case a.gone:
			l.brakes.released(j.provider, time.Now())
			l.brakes.probed(j.provider, j.probing)
			j.probe = false
			return false
		case a.granted:
			l.brakes.granted(j.provider)
			l.queue.divert(j.provider)
			return false
		default:
			wait = l.brakes.refused(j.provider, a.until, a.probe)
		}
		j.probe = false
	}
	j.paused = true
	o := j.notBegun(wait)
	o.Reason = HeldBy(j.provider)
	l.finish(j, o)
	return true
}

// divert takes what waits for a braked destination out of its turn: it is put off by
// the next hand that is free. Once the destination is free again, its window is
// found anew.
func (q *queue) divert(provider string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for d := range q.of(provider) {
		for _, j := range d.waiting {
			j.aside = true
			q.plain.push(j)
		}
		d.waiting = nil
		d.window = min(firstWindow, d.limit)
		q.rank(d)
	}
	signal(q.ready)
}

// rejoin has j, which was to be put off, wait for its turn all the same.
func (q *queue) rejoin(j *job) {
	q.mu.Lock()
	q.await(j)
	q.mu.Unlock()
	signal(q.ready)
}
