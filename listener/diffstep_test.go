package listener

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// play is a history under way, on both.
type play struct {
	db   *pgtest.DB
	ref  *reference
	l    *Listener
	s    *store
	held []*event // claimed at any time, whoever has them now
	jobs []*job   // planned or claimed at any time
	gone int      // events that were deleted
	done map[string]int
}

// playTypes are the types of events, and their steps.
var playTypes = map[string][]string{"one": {"a"}, "two": {"a", "b"}, "three": {"a", "b", "c"}}

// insert adds an event, of the type that a chooses.
func (p *play) insert(ctx context.Context, a int) error {
	n := len(p.ref.events) + p.gone
	ev := refEvent{id: uuid.NewSHA1(uuid.Nil, []byte{byte(n >> 8), byte(n)})}
	ev.lease, ev.typ = never, []string{"one", "two", "three"}[a%3]
	p.ref.events[ev.id] = &ev
	return p.db.Pool.QueryRow(ctx, `insert into outbox_events (id, type, payload) values ($1, $2, '{}') returning seq`, ev.id, ev.typ).Scan(&ev.seq)
}

// step plays one move on both, where there is somebody for it, and returns their
// answers.
func (p *play) step(t *testing.T, m move) (want, got string, err error) {
	ctx := t.Context()
	skip := func() (string, string, error) { // there is nobody for it
		p.done[m.what]--
		return "", "", nil
	}
	p.done[m.what]++
	e, hasEvent := pick(p.held, m.a)
	j, hasJob := pick(p.jobs, m.a)
	switch m.what {
	case "insert":
		err = p.insert(ctx, m.a)
	case "backlog":
		for n := 0; n < 10 && err == nil; n++ {
			err = p.insert(ctx, m.a+n)
		}
	case "claim":
		limit, times, lower := 1+m.a%2, 1+m.b%2, int64(0)
		if m.a%4 > 1 { // of so many numbers some may be missing
			limit = 8
		}
		if all := p.ref.ordered(); m.c%2 == 1 && len(all) > 0 { // after a claim that is said to have ended there
			lower = all[m.c/2%len(all)].seq
			p.s.dense.Store(lower)
		}
		seqs := slices.DeleteFunc(p.ref.claimable(math.MaxInt), func(seq int64) bool { return seq <= lower })
		asked := limit * times
		seqs = seqs[:min(len(seqs), asked)]
		wantFull := len(seqs) == asked
		if lower > 0 && p.ref.byNumbers(lower, asked) { // what lies behind is not asked for
			seqs = slices.DeleteFunc(seqs, func(seq int64) bool { return seq > lower+int64(asked) })
			wantFull = true
			if len(seqs) < asked {
				p.done[someMissing]++
			}
		}
		claims, full, err := p.s.claimEvents(ctx, lower, top, limit, times)
		if err != nil {
			return "", "", err
		}
		var all []*event
		for i, c := range claims {
			p.claimed(c.lease)
			all = append(all, c.events...)
			for k := range c.events {
				if n := i*limit + k; lower == 0 && (n >= len(seqs) || seqs[n] != c.events[k].seq) {
					got += fmt.Sprintf("%d is in claim %d; ", c.events[k].seq, i)
				}
			}
		}
		slices.SortFunc(all, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
		got, want = fmt.Sprintf("%sfull %t; ", got, full), fmt.Sprintf("full %t; ", wantFull)
		for n, ev := range all {
			const one = "%d, claimed before %t, ran out %t, put off %t; "
			got += fmt.Sprintf(one, ev.seq, ev.again, ev.ranOut, ev.putOff)
			if n < len(seqs) {
				again, ranOut, putOff := p.ref.claimEvent(seqs[n], ev.lease.claim)
				want += fmt.Sprintf(one, seqs[n], again, ranOut, putOff)
			}
			p.held = append(p.held, ev)
		}
		for _, seq := range seqs[min(len(all), len(seqs)):] {
			want += fmt.Sprintf("and %d; ", seq)
		}
	case "claim due":
		l, jobs, err := p.s.claimDue(ctx, 100)
		if err != nil {
			return "", "", err
		}
		claim := uuid.New()
		if l != nil {
			claim = l.claim
			p.claimed(l)
		}
		want = fmt.Sprint(sorted(p.ref.claimDue(claim)))
		var ids []uuid.UUID
		slices.SortFunc(jobs, func(a, b *job) int { return strings.Compare(a.ID.String(), b.ID.String()) })
		for _, j := range jobs {
			ids = append(ids, j.ID)
			p.jobs = append(p.jobs, j)
		}
		got = fmt.Sprint(sorted(ids))
	case "plan":
		if !hasEvent || len(e.jobs) > 0 {
			return skip()
		}
		want = p.planned(e)
		if e.jobs, err = p.l.plan(ctx, e); err != nil {
			return "", "", err
		}
		for _, j := range e.jobs {
			got += fmt.Sprintf("%s generation %d %s/%d known %t; ", j.ID, j.generation, j.state, j.attempts, j.known)
			p.jobs = append(p.jobs, j)
		}
	case "announce":
		if !hasJob {
			return skip()
		}
		kept, err := p.s.announce(ctx, []announcement{{job: j}})
		j.announced = true
		return fmt.Sprint(p.ref.announce(j)), fmt.Sprint(kept[j.ID]), err
	case "record fresh", "record":
		if !hasEvent {
			return skip()
		}
		en, ok := p.entryOf(e, m)
		if !ok || m.what == "record fresh" && !en.fresh() {
			return skip()
		}
		if m.what == "record fresh" {
			kept, err := p.s.recordFresh(ctx, []entry{en})
			was, twin := p.ref.recordFresh(en)
			if isTwin(err) != twin {
				return fmt.Sprintf("twin %t", twin), fmt.Sprint(err), nil
			}
			if !twin {
				return fmt.Sprint(was), fmt.Sprint(err == nil && (kept == nil || kept[e.seq])), err
			}
		}
		kept, err := p.s.recordEvents(ctx, []entry{en})
		return fmt.Sprint(p.ref.recordEvent(en)), fmt.Sprint(kept[e.seq]), err
	case "record orphans":
		if !hasEvent {
			return skip()
		}
		en, ok := p.entryOf(e, m)
		if !ok {
			return skip()
		}
		ids, err := p.s.recordOrphans(ctx, []entry{en})
		return fmt.Sprint(sorted(p.ref.recordOrphans(en))), fmt.Sprint(sorted(slices.Collect(maps.Keys(ids)))), err
	case "record delivery":
		if !hasJob {
			return skip()
		}
		if ends(j, m.b); j.outcome == nil {
			ends(j, 1)
		}
		kept, err := p.s.recordDeliveries(ctx, []entry{{job: j}})
		want = fmt.Sprint(p.ref.recordDelivery(j, j.ledgerRow(refLease)))
		if superseded := j.mayBeSuperseded(j.outcome.State); superseded || j.mayBeFollowed() {
			if superseded {
				p.ref.cancelSuperseded(j.ID)
			}
			p.ref.releaseFollowers([]uuid.UUID{j.ID})
			p.ref.settle(j.seq)
		}
		return want, fmt.Sprint(kept[j.ID]), err
	case "freeze":
		if !hasEvent || len(e.jobs) == 0 {
			return skip()
		}
		for i, j := range e.jobs {
			ends(j, 0)
			terms := dispatch.Terms{Freeze: true, Optional: m.b&(2<<i) != 0, Ordering: []string{"", "k1", "k2", "k1"}[m.b>>4%4], Supersedes: []string{"", "v"}[m.b>>6%2]}
			if m.c&(1<<i) != 0 {
				terms.At = time.Now().Add(time.Hour)
				j.outcome = &dispatch.Outcome{State: dispatch.Scheduled, Attempts: j.attempts}
			}
			if after := map[string][]string{"b": {"a"}, "c": {"a", "b"}}[j.Step]; after != nil && m.c&8 != 0 {
				terms.After, terms.Scope, j.Content = after, []byte(`{}`), nil
			}
			if j.Step == "b" && m.c&8 == 0 && m.b>>8&1 != 0 {
				terms.InsteadOf, terms.Optional = "a", true
				if j.standsIn() {
					j.outcome, j.wait = &dispatch.Outcome{State: dispatch.Scheduled, Attempts: j.attempts}, time.Hour
				}
			}
			j.Terms, j.blocked = &terms, j.outcome == nil && (terms.Ordering != "" || terms.After != nil)
		}
		en := entry{event: e, rows: e.rows(refLease), frozen: true}
		kept, canceled, err := p.s.freeze(ctx, []entry{en})
		was, gone, _ := p.ref.freezeAll([]entry{en})
		return fmt.Sprint(was, gone), fmt.Sprint(kept, canceled), err
	case "disown":
		if !hasEvent || len(e.jobs) == 0 {
			return skip()
		}
		p.ref.disown(e.jobs)
		return "", "", p.s.disown(ctx, e.jobs)
	case "renew":
		var events []*event
		var jobs []*job
		if hasEvent {
			events = append(events, e)
			want += fmt.Sprint(p.ref.renewEvent(e.seq, e.lease.claim), " ")
		}
		if hasJob {
			jobs = append(jobs, j)
			want += fmt.Sprint(p.ref.renewDelivery(j.ID, j.lease.claim), " ")
		}
		kept, err := p.s.renew(ctx, events, jobs)
		if hasEvent {
			got += fmt.Sprint(kept.events[heldEvent{e.seq, e.lease.claim}], " ")
		}
		if hasJob {
			got += fmt.Sprint(kept.jobs[heldJob{j.ID, j.lease.claim}], " ")
		}
		return want, got, err
	case "give back":
		var events []*event
		var jobs []*job
		if hasEvent && m.b%2 == 0 {
			e.absence = time.Duration(m.c%3) * p.ref.lease * 2
			events = append(events, e)
			p.ref.releaseEvent(e)
		}
		if hasJob && m.b%2 == 1 {
			jobs = append(jobs, j)
			p.ref.releaseDelivery(j.ID, j.lease.claim)
		}
		locked, err := p.s.release(ctx, events, jobs)
		return "0 locked", fmt.Sprintf("%d locked", locked), err
	case "hasten":
		typ := []string{"one", "two", "three"}[m.a%3]
		last, err := p.s.hastenEvents(ctx, typ, 0, top, 1+m.b%2)
		return fmt.Sprint(p.ref.hasten(typ, 0, top, 1+m.b%2)), fmt.Sprint(last), err
	case "note look":
		if !hasJob {
			return skip()
		}
		found := []string{"", "SM2"}[m.b%2]
		kept, err := p.s.noteLook(ctx, j, 0, dispatch.VerdictFound, dispatch.Receipt{ProviderID: found}, "")
		return fmt.Sprint(p.ref.noteLook(j.ID, j.lease.claim, found)), fmt.Sprint(kept), err
	default:
		want, got, did, err := p.beside(ctx, m, j)
		if !did {
			return skip()
		}
		return want, got, err
	}
	return want, got, err
}

// entryOf is event e with the deliveries that were planned of it.
func (p *play) entryOf(e *event, m move) (entry, bool) {
	if len(e.jobs) == 0 {
		return entry{}, false
	}
	en := entry{event: e}
	for i, j := range e.jobs {
		if ends(j, m.b+i*m.c); j.outcome == nil {
			en.open = append(en.open, j)
		}
	}
	en.rows = e.rows(refLease)
	return en, true
}

// ends gives j outcome number n.
func ends(j *job, n int) {
	j.outcome, j.wait = nil, time.Hour
	if o := outcomes[n%len(outcomes)]; o != nil {
		made := *o
		made.Attempts, j.Attempt = j.attempts+1, j.attempts+1
		j.outcome = &made
	}
}

// outcomes are what a delivery may come to; nil stands for none yet.
var outcomes = []*dispatch.Outcome{
	nil, {State: dispatch.Delivered, Receipt: dispatch.Receipt{ProviderID: "SM1"}}, {State: dispatch.Dead, Err: refusal(dispatch.Rejected)},
	{State: dispatch.Retry, Err: refusal(dispatch.Down)}, {State: dispatch.Uncertain, Err: refusal(dispatch.Unknown)},
	{State: dispatch.Held, Err: refusal(dispatch.Unknown)}, {State: dispatch.Skipped}, {State: dispatch.Delivered}, {State: dispatch.Ready},
}

func refusal(kind dispatch.Kind) *dispatch.Error {
	return &dispatch.Error{Kind: kind, Err: errors.New("no")}
}

// planned is what Listener.plan makes of e, by the reference.
func (p *play) planned(e *event) (want string) {
	var have []refRow
	if e.again {
		have = p.ref.adopt(e.seq, e.lease.claim)
	}
	for _, step := range playTypes[e.Type] {
		msg := dispatch.Message{Route: "r", Step: step, Channel: "c"}
		generation := 0
		var newest *refRow
		for i, r := range have {
			if r.step == step && (newest == nil || r.generation > newest.generation) {
				newest = &have[i]
			}
		}
		switch {
		case newest == nil:
		case newest.state == dispatch.Delivered:
			continue
		case newest.state.Terminal():
			generation = newest.generation + 1
		default:
			want += fmt.Sprintf("%s generation %d %s/%d known true; ", newest.id, newest.generation, newest.state, newest.attempts)
			continue
		}
		want += fmt.Sprintf("%s generation %d /0 known false; ", deliveryID(e.seq, e.ID, &msg, generation), generation)
	}
	return want
}

// refRows are the deliveries, in order of their ids.
func (p *play) refRows() []*refRow {
	return slices.SortedFunc(maps.Values(p.ref.rows), func(a, b *refRow) int { return strings.Compare(a.id.String(), b.id.String()) })
}

// claimed names a claim for what is compared.
func (p *play) claimed(l *lease) {
	n := len(p.ref.names)/2 + 1
	p.ref.names[l.claim] = fmt.Sprintf("c%d", n)
	p.ref.names[l.successor()] = fmt.Sprintf("s%d", n)
}

// pick is the n-th of items, round and round; every other time one of the last.
func pick[T any](items []T, n int) (item T, ok bool) {
	if n%2 == 0 {
		items = items[max(len(items)-2, 0):]
	}
	if len(items) == 0 {
		return item, false
	}
	return items[n/2%len(items)], true
}

// those are the items that fit, in order.
func those[T any](items []T, fit func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(items), func(item T) bool { return !fit(item) })
}

func sorted(ids []uuid.UUID) []uuid.UUID {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}
