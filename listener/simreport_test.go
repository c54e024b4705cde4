package listener

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// simPatience is how long word is waited for of what became of an SMS.
const simPatience = 10 * time.Minute

func (s *simStore) noteReport(ctx context.Context, rep dispatch.Report) (n noted, err error) {
	err = s.do(ctx, durable, func(m *reference) error {
		n = m.noteReport(rep)
		return nil
	})
	if err != nil {
		return noted{}, err
	}
	return n, nil
}

func (s *simStore) standing(ctx context.Context, j *job) (st dispatch.Standing, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		st = m.standing(j)
		return nil
	})
	return st, err
}

// simWord is what a provider has said of the deliveries of one id.
type simWord struct {
	failed    bool // once, at least, that it did not arrive
	delivered bool
	noted     time.Time // when a last word was first on record for sure
}

// reports has the provider say what becomes of a message that it took: soon or late, again,
// in any order, or not at all. The caller holds w.mu.
func (w *simWorld) reports(id uuid.UUID, name string) {
	if w.r.IntN(4) == 0 {
		return
	}
	last := []dispatch.Fate{dispatch.FateDelivered, dispatch.FateUndelivered, dispatch.FateUndelivered, dispatch.FateFailed}[w.r.IntN(4)]
	said := []dispatch.Fate{last}
	for range w.r.IntN(3) {
		said = append(said, []dispatch.Fate{dispatch.FateQueued, dispatch.FateSent, last}[w.r.IntN(3)])
	}
	if last != dispatch.FateDelivered && w.r.IntN(8) == 0 {
		said = append(said, dispatch.FateDelivered) // it arrived after all
	}
	longest := 3 * time.Minute
	if w.r.IntN(8) == 0 {
		longest = 2 * simPatience
	}
	for _, fate := range said {
		wait := time.Duration(w.r.Int64N(int64(longest)))
		if w.r.IntN(4) == 0 {
			wait = time.Duration(w.r.Int64N(int64(20 * time.Millisecond))) // before its answer
		}
		time.AfterFunc(wait, func() { w.report(dispatch.Report{Delivery: id, ProviderID: name, Fate: fate}) })
	}
}

// report sends one report to whichever process is there, three times at most.
func (w *simWorld) report(rep dispatch.Report) {
	w.mu.Lock()
	word := w.words[rep.Delivery]
	if word == nil {
		word = &simWord{}
		w.words[rep.Delivery] = word
	}
	word.failed = word.failed || rep.Fate == dispatch.FateUndelivered || rep.Fate == dispatch.FateFailed
	word.delivered = word.delivered || rep.Fate == dispatch.FateDelivered
	w.saying++
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.saying--
	}()
	p := w.procs[len(w.procs)-1-w.r.IntN(min(len(w.procs), 3))]
	w.mu.Unlock()
	for range 3 {
		known, err := p.l.Report(context.Background(), rep)
		if err == nil {
			w.mu.Lock()
			if known && rep.Fate.Final() && word.noted.IsZero() {
				word.noted = time.Now()
			}
			w.mu.Unlock()
			return
		}
		time.Sleep(time.Second)
	}
}

// said reports whether no report is under way.
func (w *simWorld) said() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.saying == 0
}

// mayStandIn holds the beginning of an attempt at r, which is sent in the place of another
// step, against what its provider said of that one. The caller holds db.mu and w.mu.
func (s simSender) mayStandIn(d *dispatch.Delivery, r *refRow) {
	if r.insteadOf == "" || s.p.w.db.ref.replayed(r.seq) {
		return
	}
	m, w := s.p.w.db.ref, s.p.w
	o := m.stoodInFor(r.seq, r.of.Route, r.insteadOf)
	word := w.words[o.id]
	if w.forced[r.id] {
		return // a person had it sent
	}
	if (word == nil || !word.failed) && (o.state != dispatch.Dead || m.unclear(o)) {
		w.fault(d.EventID, "%s is sent by listener %d instead of %s, which is %s, and nobody said that it did not arrive", d.Step, s.p.n, o.step, o.state)
	}
}

// judgeStandIn holds what became of r against what was said of the step that it is
// sent instead of.
func (w *simWorld) judgeStandIn(r *refRow) {
	if r.insteadOf == "" || !r.state.Terminal() || w.db.ref.replayed(r.seq) {
		return
	}
	o := w.db.ref.stoodInFor(r.seq, r.of.Route, r.insteadOf)
	word := w.words[o.id]
	switch {
	case w.stoodStill() || len(w.taken[o.id]) != 1:
	case strings.HasPrefix(r.lastError, "no word came") && word != nil && !word.noted.IsZero() && word.noted.Before(r.finished.Add(-2*time.Minute)):
		w.fault(r.event, "%s is %s (%s), and there was word of %s", r.step, r.state, r.lastError, o.step)
	case strings.HasPrefix(r.lastError, "the step") && strings.HasSuffix(r.lastError, "arrived") && (word == nil || !word.delivered):
		w.fault(r.event, "%s is %s (%s), and nobody said that %s arrived", r.step, r.state, r.lastError, o.step)
	}
}
