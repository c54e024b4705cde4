package listener

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

var (
	histories     = flag.Int("histories", 200, "how many random histories TestDifferential plays")
	historiesFor  = flag.Duration("histories-for", 10*time.Second, "no history begins after this")
	historySeed   = flag.Uint64("history", 0, "play this history alone")
	historiesPage = flag.String("histories-page", "", "write what was played to this file")
)

// refLease is long enough for a history to end within it, so that leases run out only
// where the history says so.
const refLease = 5 * time.Minute

// move is one operation of a history: what, and numbers that choose upon whom. It
// says the same whatever came before it, so that others can be left out.
type move struct {
	what    string
	a, b, c int
}

// moves are the operations, the frequent ones more than once.
var moves = []string{"insert", "insert", "claim", "claim", "claim", "claim due", "claim due", "plan", "plan", "plan", "announce", "announce", "announce",
	"record fresh", "record fresh", "record", "record", "record delivery", "record delivery", "record delivery", "freeze", "freeze", "renew", "give back",
	"expire event", "expire event", "expire delivery", "expire delivery", "expire delivery", "note look", "reopen", "reopen", "release held", "cancel", "delete", "record orphans", "disown",
	"pass turns", "pass turns", "pass turns", "stalled lines", "release followers", "release followers", "freeze delivery", "step results",
	"note report", "note report", "standing", "hold", "hold", "let out", "withdraw", "replay", "replay"}

// themes are moves that lead deeper into one matter. Every other history is of one of
// them.
var themes = [][]string{
	{"insert", "claim", "claim", "plan", "plan", "freeze", "freeze", "freeze", "pass turns", "pass turns", "pass turns", "claim due", "record delivery", "record delivery",
		"replay", "replay", "reopen", "reopen", "expire delivery", "expire event", "withdraw", "hold", "let out", "stalled lines", "disown", "delete"},
	{"insert", "claim", "claim", "plan", "plan", "freeze", "freeze", "freeze", "record delivery", "record delivery", "record delivery", "record delivery", "claim due", "claim due",
		"release followers", "step results", "freeze delivery", "note report", "note report", "standing", "withdraw", "replay", "hold", "let out", "expire delivery", "reopen"},
}

// history makes the history of a seed.
func history(seed uint64) []move {
	r := rand.New(rand.NewPCG(seed, 2))
	out, from := []move{{what: "insert"}}, moves
	if n := seed % uint64(2*len(themes)); n%2 == 0 {
		from = themes[n/2]
	}
	for range 30 + r.IntN(50) {
		out = append(out, move{from[r.IntN(len(from))], r.IntN(1 << 16), r.IntN(1 << 16), r.IntN(1 << 16)})
	}
	return out
}

// playTypes are the types of events, and their steps.
var playTypes = map[string][]string{"one": {"a"}, "two": {"a", "b"}, "three": {"a", "b", "c"}}

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

// TestDifferential plays random histories of claims, records and everything between
// on the statements against Postgres and on their reference in memory: the answers and
// all rows are the same after each step.
func TestDifferential(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first, last := uint64(1), uint64(*histories)
	if *historySeed != 0 {
		first, last = *historySeed, *historySeed
	}
	begun := time.Now()
	done, played := map[string]int{}, 0
	for seed := first; seed <= last && time.Since(begun) < *historiesFor; seed++ {
		h := history(seed)
		if _, why := run(t, db, h, done); why != "" {
			h, why = shrink(t, db, h, why)
			t.Fatalf("-history %d, cut to %d of its steps:\n%s\n%s", seed, len(h), told(h), why)
		}
		played++
	}
	t.Logf("%d histories, %d operations in %s", played, total(done), time.Since(begun).Round(time.Second))
	if *historySeed == 0 && played >= 100 {
		for _, m := range moves {
			if done[m] == 0 {
				t.Errorf("never done: %s", m)
			}
		}
	}
	if *historiesPage != "" {
		writePage(t, played, done)
	}
}

func total(done map[string]int) (n int) {
	for _, k := range done {
		n += k
	}
	return n
}

func writePage(t *testing.T, played int, done map[string]int) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# Histories against Postgres\n\nWritten by `just differential`: seeds 1 to %d, each played on the statements and on their reference in memory.\n"+
		"After each of %d operations the answers and all rows were the same.\n\n| operation | done |\n|---|---:|\n", played, total(done))
	for _, m := range slices.Sorted(maps.Keys(done)) {
		fmt.Fprintf(&b, "| %s | %d |\n", m, done[m])
	}
	if err := os.WriteFile(*historiesPage, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
}

func told(h []move) string {
	var lines []string
	for _, m := range h {
		lines = append(lines, fmt.Sprintf("  %s %d %d %d", m.what, m.a, m.b, m.c))
	}
	return strings.Join(lines, "\n")
}

// shrink leaves out of h, which fails, what it fails without.
func shrink(t *testing.T, db *pgtest.DB, h []move, why string) ([]move, string) {
	for again := true; again; {
		again = false
		for i := len(h) - 1; i >= 0; i-- {
			less := slices.Delete(slices.Clone(h), i, i+1)
			if n, still := run(t, db, less, map[string]int{}); still != "" {
				h, why, again = less[:n], still, true
			}
			i = min(i, len(h))
		}
	}
	return h, why
}

// run plays h and returns how many steps it took until the two differ, and how; ""
// where they never do.
func run(t *testing.T, db *pgtest.DB, h []move, done map[string]int) (steps int, why string) {
	t.Helper()
	pgtest.Exec(t, db, `delete from outbox.attempts`)
	pgtest.Exec(t, db, `delete from outbox.deliveries`)
	pgtest.Exec(t, db, `delete from outbox_events`)
	pgtest.Exec(t, db, `alter sequence outbox_events_seq_seq restart`) // numbers and ids are the same each time
	d := dispatch.New()
	d.Register("c", senderFunc(func(*dispatch.Delivery) error { return nil }), dispatch.Policy{})
	for typ, steps := range playTypes {
		d.Route(typ, func(context.Context, dispatch.Event) (msgs []dispatch.Message) {
			for _, step := range steps {
				msgs = append(msgs, dispatch.Message{Route: "r", Step: step, Channel: "c", Content: []byte(`{}`)})
			}
			return msgs
		})
	}
	s := &store{pool: db.Pool, lease: refLease, maxPayload: 1 << 20}
	p := &play{db: db, ref: newReference(refLease), s: s, l: &Listener{cfg: Config{Dispatcher: d}, store: s}, done: done}
	for i, m := range h {
		want, got, err := p.step(t, m)
		if err != nil {
			return i + 1, fmt.Sprintf("%s: %v", m.what, err)
		}
		if want != got {
			return i + 1, fmt.Sprintf("%s answered %s, the reference %s", m.what, got, want)
		}
		if want, got := p.ref.String(), p.rows(t); want != got {
			return i + 1, fmt.Sprintf("after %s Postgres has\n%s\nthe reference\n%s", m.what, got, want)
		}
	}
	return len(h), ""
}

// rows is what Postgres has, in the form of reference.String.
func (p *play) rows(t *testing.T) string {
	t.Helper()
	const class = `case when %[1]s is null then '-' when %[1]s = 'infinity' then 'forever' when %[1]s <= clock_timestamp() then 'past'
		when %[1]s <= clock_timestamp() + $1::float8 * interval '1 second' then 'soon' else 'later' end`
	var lines []string
	rows, err := p.db.Pool.Query(t.Context(), `select 'event ' || seq || ' processed ' || (processed_at is not null) || ' lease ' || `+fmt.Sprintf(class, "lease_until")+`, coalesce(claim::text, ''), '' from outbox_events
		union all select 'row ' || left(id::text, 18) || ' of ' || event_seq || ' ' || step || ' ' || state || '/' || attempts || ' generation ' || generation || ' required ' || required
		|| ' provider "' || coalesce(provider_id, '') || '" due ' || `+fmt.Sprintf(class, "due_at")+` || ' line "' || coalesce(line, '') || '" turn ' || (turn_at is not null) || ' after [' || coalesce(array_to_string(after_steps, ' '), '') || '] instead of "' || coalesce(instead_of, '') || '" receipt "' || coalesce(receipt, '') || '" held from "' || coalesce(held_from, '') || '"', coalesce(claim::text, ''),
		' finished ' || (finished_at is not null) || ' looks ' || jsonb_array_length(coalesce(looks, '[]')) from outbox.deliveries`, refLease.Seconds()+1)
	if err != nil {
		t.Fatal(err)
	}
	var line, claim, rest string
	_, err = pgx.ForEachRow(rows, []any{&line, &claim, &rest}, func() error {
		var id uuid.UUID
		if claim != "" {
			id = uuid.MustParse(claim)
		}
		lines = append(lines, line+" claim "+p.ref.name(id)+rest)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
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

// outcomes are what a delivery may come to; nil stands for none yet.
var outcomes = []*dispatch.Outcome{
	nil, {State: dispatch.Delivered, Receipt: dispatch.Receipt{ProviderID: "SM1"}}, {State: dispatch.Dead, Err: refusal(dispatch.Rejected)},
	{State: dispatch.Retry, Err: refusal(dispatch.Down)}, {State: dispatch.Uncertain, Err: refusal(dispatch.Unknown)},
	{State: dispatch.Held, Err: refusal(dispatch.Unknown)}, {State: dispatch.Skipped}, {State: dispatch.Delivered}, {State: dispatch.Ready},
}

func refusal(kind dispatch.Kind) *dispatch.Error {
	return &dispatch.Error{Kind: kind, Err: errors.New("no")}
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
		typ := []string{"one", "two", "three"}[m.a%3]
		var ev refEvent
		ev.id = uuid.NewSHA1(uuid.Nil, []byte{byte(len(p.ref.events) + p.gone)})
		err = p.db.Pool.QueryRow(ctx, `insert into outbox_events (id, type, payload) values ($1, $2, '{}') returning seq`, ev.id, typ).Scan(&ev.seq)
		ev.lease, ev.typ = never, typ
		p.ref.events[ev.id] = &ev
	case "claim":
		limit, times := 1+m.a%2, 1+m.b%2
		seqs := p.ref.claimable(limit * times)
		claims, _, err := p.s.claimEvents(ctx, 0, limit, times)
		if err != nil {
			return "", "", err
		}
		for i, c := range claims {
			p.claimed(c.lease)
			for k, ev := range c.events {
				got += fmt.Sprintf("%d in claim %d, claimed before %t; ", ev.seq, i, ev.again)
				if n := i*limit + k; n < len(seqs) {
					want += fmt.Sprintf("%d in claim %d, claimed before %t; ", seqs[n], i, p.ref.claimEvent(seqs[n], c.lease.claim))
				}
				p.held = append(p.held, ev)
			}
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
				return fmt.Sprint(was), fmt.Sprint(kept[e.seq]), err
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
			events = append(events, e)
			p.ref.releaseEvent(e.seq, e.lease.claim)
		}
		if hasJob && m.b%2 == 1 {
			jobs = append(jobs, j)
			p.ref.releaseDelivery(j.ID, j.lease.claim)
		}
		locked, err := p.s.release(ctx, events, jobs)
		return "0 locked", fmt.Sprintf("%d locked", locked), err
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

// refRows are the deliveries, in order of their ids.
func (p *play) refRows() []*refRow {
	return slices.SortedFunc(maps.Values(p.ref.rows), func(a, b *refRow) int { return strings.Compare(a.id.String(), b.id.String()) })
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

func sorted(ids []uuid.UUID) []uuid.UUID {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}
