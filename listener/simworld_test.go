package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// simWorld is one simulation: tables, processes, a provider, and who inserts.
type simWorld struct {
	db *simDB

	mu       sync.Mutex
	r        *rand.Rand
	taken    map[uuid.UUID][]simTaken // by delivery: what the provider has
	unclear  map[uuid.UUID]int        // attempts at a delivery whose outcome nobody was told
	sent     map[uuid.UUID]int        // attempts that may have arrived, as the provider knows
	history  map[uuid.UUID][]string   // of an event
	began    time.Time
	aborted  map[uuid.UUID]bool // events whose transaction was rolled back
	commits  map[uuid.UUID]string
	faults   []string
	blamed   uuid.UUID               // the event that the first fault is about
	flying   map[uuid.UUID]simFlight // by delivery
	arrivals map[string][]simArrival // by line
	words    map[uuid.UUID]*simWord
	saying   int                // reports under way
	forced   map[uuid.UUID]bool // a person had it sent, whether it arrived or not
	released map[uuid.UUID]bool // a person had it sent, whatever came after it
	meddled  int
	procs    []*simProc
	trouble  float64
	attempts int
	poisoned int
}

// simTaken is one message that the provider has.
type simTaken struct {
	id string
	at time.Time
}

// simProc is a process with a listener in it.
type simProc struct {
	n      int
	w      *simWorld
	l      *Listener
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	dead  bool
	until time.Time // it stands still until then
	stood time.Time // when it last went on
}

func (p *simProc) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errSimDead
	}
	return nil
}

// stand waits while the process stands still, as after SIGSTOP: where it would talk to
// somebody, since that is where others could tell.
func (p *simProc) stand() {
	for {
		p.mu.Lock()
		left := time.Until(p.until)
		p.mu.Unlock()
		if left <= 0 {
			return
		}
		time.Sleep(left)
	}
}

func (p *simProc) stop(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
	p.stood = p.until
}

// stoodSince reports whether the process stood still at any time after t.
func (p *simProc) stoodSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.stood.IsZero() && !p.stood.Before(t)
}

// kill ends the process: from now on it changes nothing outside of it.
func (p *simProc) kill() {
	p.mu.Lock()
	p.dead, p.until = true, time.Time{}
	p.mu.Unlock()
	p.cancel()
}

// The channels of a simulation, by what follows where no clear answer came.
var simPolicies = map[dispatch.Channel]dispatch.Policy{
	"hook": {OnUnknown: dispatch.Resend, Provider: true},
	"mail": {Announce: true, Provider: true, OnUnknown: dispatch.Resend},
	"sms":  {Announce: true, Provider: true, OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Hold},
	"held": {Announce: true, OnUnknown: dispatch.Hold},
	"once": {Announce: true, OnUnknown: dispatch.NeverTwice},
}

func newSimWorld(seed uint64) *simWorld {
	w := &simWorld{
		r: rand.New(rand.NewPCG(seed, 3)), taken: map[uuid.UUID][]simTaken{}, unclear: map[uuid.UUID]int{}, sent: map[uuid.UUID]int{},
		history: map[uuid.UUID][]string{}, aborted: map[uuid.UUID]bool{}, commits: map[uuid.UUID]string{}, began: time.Now(),
		flying: map[uuid.UUID]simFlight{}, arrivals: map[string][]simArrival{}, words: map[uuid.UUID]*simWord{}, forced: map[uuid.UUID]bool{}, released: map[uuid.UUID]bool{},
	}
	w.db = newSimDB(rand.New(rand.NewPCG(seed, 4)), 20*time.Second)
	// A fifth of the worlds know no trouble: nothing may be sent twice there.
	w.trouble = max(0, w.r.Float64()*1.25-0.25)
	w.db.trouble = w.trouble
	return w
}

func (w *simWorld) note(event uuid.UUID, format string, args ...any) {
	w.history[event] = append(w.history[event], fmt.Sprintf("%9.3f  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// fault notes that a promise was broken. The caller holds w.mu.
func (w *simWorld) fault(event uuid.UUID, format string, args ...any) {
	if len(w.faults) == 0 {
		w.blamed = event
	}
	w.faults = append(w.faults, fmt.Sprintf("event %s: ", event)+fmt.Sprintf(format, args...))
}

// spawn starts a process, as r has it.
func (w *simWorld) spawn(r *rand.Rand, crashes int) *simProc {
	p := &simProc{n: len(w.procs) + 1, w: w, done: make(chan struct{})}
	d := dispatch.New()
	for ch, policy := range simPolicies {
		policy.Timeout = 5 * time.Second
		d.Register(ch, simSender{p, ch}, policy)
	}
	d.Use(simRoutes{})
	cfg := Config{
		Dispatcher: d, BatchSize: 1 + r.IntN(20), Workers: 1 + r.IntN(8), PollInterval: time.Second, Lease: w.db.lease,
		MaxAttempts: 4, MaxCrashes: crashes, MaxPayload: 1 << 20, AwaitReport: simPatience, ShutdownGrace: 5 * time.Second, RetainProcessed: Forever, RetainLedger: Forever,
		LookAfter: DefaultLookAfter(), Clock: &dispatch.Clock{}, Log: slog.New(slog.DiscardHandler),
	}
	l := newListener(cfg, &simStore{db: w.db, proc: p})
	ctx, cancel := context.WithCancel(context.Background())
	p.l, p.cancel = l, cancel
	w.mu.Lock()
	w.procs = append(w.procs, p)
	w.mu.Unlock()
	go func() {
		defer close(p.done)
		if err := l.run(ctx, true, l.drive); err != nil {
			w.mu.Lock()
			w.fault(uuid.Nil, "listener %d ended: %v", p.n, err)
			w.mu.Unlock()
		}
	}()
	return p
}

// insert makes events in a transaction that takes a while, and may not come about.
func (w *simWorld) insert(n int, open time.Duration, commit bool) {
	w.mu.Lock()
	types := make([]string, n)
	ids := make([]uuid.UUID, n)
	for i := range ids {
		for typ := range simTypes { // any of them, as maps go
			if types[i] == "" || w.r.IntN(len(simTypes)) == 0 {
				types[i] = typ
			}
		}
		for k := range ids[i] {
			ids[i][k] = byte(w.r.Uint32())
		}
	}
	w.mu.Unlock()
	db := w.db
	db.mu.Lock()
	if time.Now().Before(db.away) {
		db.mu.Unlock()
		return
	}
	var seqs []int64
	for i, id := range ids {
		db.highest++
		seqs = append(seqs, db.highest)
		db.writers[db.highest] = true
		db.ref.events[id] = &refEvent{id: id, seq: db.highest, typ: types[i], at: time.Now(), hidden: true}
	}
	db.mu.Unlock()
	time.Sleep(open)
	db.mu.Lock()
	defer db.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, id := range ids {
		e := db.ref.events[id]
		if e != nil && db.writers[seqs[i]] && commit {
			e.hidden, e.seen = false, time.Now()
			w.commits[id] = types[i]
			w.note(id, "%s committed as number %d", types[i], seqs[i])
		} else {
			delete(db.ref.events, id)
			w.aborted[id] = true
		}
		delete(db.writers, seqs[i])
	}
	db.flushed = nil // a commit of the application is on disk, and all before it
}

// simSender is the provider of one channel, as one process talks to it.
type simSender struct {
	p  *simProc
	ch dispatch.Channel
}

var _ dispatch.Reconciler = simSender{}

// Likeness implements dispatch.Reconciler.
func (s simSender) Likeness(d *dispatch.Delivery) string {
	if s.ch != "sms" {
		return ""
	}
	return string(d.Content)
}

// Find implements dispatch.Reconciler: the list is honest.
func (s simSender) Find(ctx context.Context, d *dispatch.Delivery, since time.Time) (dispatch.Found, error) {
	w := s.p.w
	s.p.stand()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.p.err(); err != nil {
		return dispatch.Found{}, err
	}
	if w.r.Float64() < 0.2*w.trouble {
		return dispatch.Found{}, &dispatch.Error{Kind: dispatch.Down, Err: errors.New("simulated: no list")}
	}
	var f dispatch.Found
	for _, t := range w.taken[d.ID] {
		if !t.at.Before(since.Add(-5 * time.Second)) {
			f.Alike = append(f.Alike, dispatch.Receipt{ProviderID: t.id})
		}
	}
	w.note(d.EventID, "listener %d looks for %s: the provider has %d", s.p.n, s.ch, len(f.Alike))
	return f, nil
}

// Send implements dispatch.Sender.
func (s simSender) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	w, entered := s.p.w, time.Now()
	s.p.stand()
	if err := s.p.err(); err != nil {
		return dispatch.Receipt{}, err
	}
	s.mayBegin(d, entered)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.flying, d.ID)
	}()
	w.mu.Lock()
	w.attempts++
	fate, way, back := w.r.Float64(), w.latency(), w.latency()
	if fate >= w.trouble {
		fate = 1
	} else {
		fate /= w.trouble // evenly among what may go wrong
	}
	w.note(d.EventID, "listener %d sends %s, attempt %d", s.p.n, s.ch, d.Attempt)
	w.mu.Unlock()
	fail := func(kind dispatch.Kind, why string) (dispatch.Receipt, error) {
		return dispatch.Receipt{}, &dispatch.Error{Kind: kind, Err: errors.New("simulated: " + why)}
	}
	unclear := func(why string) (dispatch.Receipt, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unclear[d.ID]++
		w.note(d.EventID, "  %s: no clear answer to listener %d: %s", s.ch, s.p.n, why)
		return fail(dispatch.Unknown, why)
	}
	wait(context.WithoutCancel(ctx), way) // what has left arrives, whatever becomes of us
	switch {
	case fate < 0.15:
		w.may(d, "lost on the way")
		return unclear("lost on the way")
	case fate < 0.3:
		return fail(dispatch.Down, "busy")
	case fate < 0.4:
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: 3 * time.Second, Err: errors.New("simulated: too fast")}
	case fate < 0.5:
		return fail(dispatch.Rejected, "no such recipient")
	}
	r := w.take(d, s, entered)
	switch {
	case fate < 0.75:
		return unclear("the answer was lost")
	case fate < 0.85:
		back = 20 * time.Second // longer than the channel waits
	}
	wait(ctx, back)
	s.p.stand()
	if s.p.err() != nil || ctx.Err() != nil {
		return unclear("nobody waited for the answer")
	}
	return r, nil
}

// latency is that of the provider. The caller holds w.mu.
func (w *simWorld) latency() time.Duration {
	if w.r.Float64() < 0.1*w.trouble {
		return time.Duration(w.r.Int64N(int64(4 * time.Second)))
	}
	return time.Duration(w.r.Int64N(int64(50 * time.Millisecond)))
}

// may notes an attempt that may have arrived, as far as anybody can tell.
func (w *simWorld) may(d *dispatch.Delivery, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[d.ID]++
	w.note(d.EventID, "  %s: %s", d.Channel, what)
}

// take has the provider take d.
func (w *simWorld) take(d *dispatch.Delivery, s simSender, entered time.Time) dispatch.Receipt {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[d.ID]++
	id := fmt.Sprintf("SM%d", w.r.Uint64())
	w.taken[d.ID] = append(w.taken[d.ID], simTaken{id, time.Now()})
	w.note(d.EventID, "  %s: the provider has it from listener %d, as %s", s.ch, s.p.n, id)
	if w.aborted[d.EventID] || w.commits[d.EventID] == "" {
		w.fault(d.EventID, "%s was sent, and never committed", s.ch)
	}
	s.arrived(d, entered)
	if s.ch == "sms" || s.ch == "once" {
		w.reports(d.ID, id)
	}
	return dispatch.Receipt{ProviderID: id}
}

// mayBegin holds the beginning of an attempt against the tables: nothing leaves
// without a lease, nor what is over, nor unannounced where that is to be seen first. What a
// process does that stood still is not held against it.
func (s simSender) mayBegin(d *dispatch.Delivery, entered time.Time) {
	w, db := s.p.w, s.p.w.db
	db.mu.Lock()
	defer db.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.p.stoodSince(entered.Add(-db.lease)) {
		return
	}
	// Claims are not on disk at once. What is not announced may leave on one that the
	// server has forgotten.
	announce := simPolicies[s.ch].Announce
	forgotten := !announce && !db.forgot.IsZero() && time.Since(db.forgot) < db.lease
	e, r := db.ref.events[d.EventID], db.ref.rows[d.ID]
	switch {
	case e == nil:
		w.fault(d.EventID, "%s is sent, and its event is not there", s.ch)
	case r != nil && r.state == dispatch.Held && !forgotten:
		w.fault(d.EventID, "%s is sent by listener %d, and is held", s.ch, s.p.n)
	case r != nil && r.state.Terminal() && !forgotten:
		w.fault(d.EventID, "%s is sent again by listener %d, and is %s", s.ch, s.p.n, r.state)
	case r != nil && r.claim != uuid.Nil && db.owners[r.claim] != s.p && !forgotten:
		w.fault(d.EventID, "%s is sent by listener %d, and is another's", s.ch, s.p.n)
	case r == nil && (db.owners[e.claim] != s.p || !db.ref.ahead(e.lease)) && !forgotten:
		w.fault(d.EventID, "%s is sent by listener %d without a lease", s.ch, s.p.n)
	case announce && (r == nil || r.state != dispatch.Sending || r.attempts != d.Attempt):
		w.fault(d.EventID, "%s is sent by listener %d and not announced", s.ch, s.p.n)
	}
	if r != nil {
		s.mayFollow(d, r)
		s.mayStandIn(d, r)
	}
	if r != nil && r.ordering != "" && !forgotten {
		s.mayTurn(d, r)
	}
}

// judge says what the whole of it came to.
func (w *simWorld) judge() {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := map[uuid.UUID]map[string]*refRow{}
	for _, r := range w.db.ref.rows {
		if rows[r.event] == nil {
			rows[r.event] = map[string]*refRow{}
		}
		if o := rows[r.event][r.step]; o != nil && o.generation == r.generation {
			w.fault(r.event, "%s has two deliveries", r.step)
		} else if o == nil || o.generation < r.generation {
			rows[r.event][r.step] = r
		}
		w.judgeRow(r)
	}
	for id, typ := range w.commits {
		e := w.db.ref.events[id]
		if e == nil {
			w.fault(id, "it is gone")
			continue
		}
		if r := rows[id][""]; r != nil && r.state == dispatch.Dead && strings.HasPrefix(r.lastError, "poison") {
			w.poisoned++ // killed three times at the wrong moment; docs/design.md says that this cannot be told apart
			continue
		}
		open, later := false, false
		for _, step := range simTypes[typ] {
			r := rows[id][step]
			if r == nil {
				w.fault(id, "%s has no delivery", step)
				continue
			}
			w.judgeFollower(typ, r)
			w.judgeSuperseded(r)
			w.judgeStandIn(r)
			open = open || !r.state.Terminal() && !simLater(typ, step)
			later = later || !r.state.Terminal() && simLater(typ, step) // keeps its event back if its time came first
		}
		if e.processed == open && !later {
			w.fault(id, "processed %t, with deliveries open %t", e.processed, open)
		}
	}
}

func (w *simWorld) judgeRow(r *refRow) {
	n, policy := len(w.taken[r.id]), simPolicies[r.of.Channel]
	poison := strings.HasPrefix(r.lastError, "poison")
	switch {
	case r.line != "":
		w.fault(r.event, "%s is %s, and stands in its line", r.step, r.state)
	case !r.state.Terminal():
		w.fault(r.event, "%s is %s for ever (%s)", r.step, r.state, r.lastError)
	case r.state == dispatch.Delivered && n == 0:
		w.fault(r.event, "%s is delivered, and the provider does not have it", r.step)
	case w.forced[r.id]:
	case policy.OnUnknown == dispatch.NeverTwice && w.sent[r.id] > 1:
		w.fault(r.event, "%s was submitted %d times", r.step, w.sent[r.id])
	case policy.OnUnknown != dispatch.Resend && n > 1:
		w.fault(r.event, "%s arrived %d times", r.step, n)
	case n > 1 && w.trouble == 0:
		w.fault(r.event, "%s arrived %d times without any trouble", r.step, n)
	case policy.OnUnknown == dispatch.Reconcile && n == 1 && r.state != dispatch.Delivered && !poison && r.lastError != byPerson && !w.stoodStill():
		w.fault(r.event, "%s is %s (%s), and the provider lists it", r.step, r.state, r.lastError)
	case r.state == dispatch.Dead && n > 0 && w.unclear[r.id] == 0 && w.trouble == 0:
		w.fault(r.event, "%s is dead (%s), and the provider has it", r.step, r.lastError)
	}
}

// stoodStill reports whether any process did, so that something may have left long
// after it was looked for.
func (w *simWorld) stoodStill() bool {
	for _, p := range w.procs {
		if p.stoodSince(w.began) {
			return true
		}
	}
	return false
}
