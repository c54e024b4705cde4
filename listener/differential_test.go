package listener

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/evidence"
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
	if *historySeed == 0 && played >= 150 {
		for _, m := range moves {
			if done[m] == 0 {
				t.Errorf("never done: %s", m)
			}
		}
		if played >= 2000 && done[someMissing] == 0 {
			t.Errorf("never done: %s", someMissing)
		}
	}
	if *historiesPage != "" {
		writePage(t, played, done)
	}
}

// someMissing is what is counted of a claim that went by numbers of which some are missing, as a claim besides.
const someMissing = "claim by numbers of which some are missing"

func total(done map[string]int) (n int) {
	for what, k := range done {
		if what != someMissing {
			n += k
		}
	}
	return n
}

func writePage(t *testing.T, played int, done map[string]int) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# Histories against Postgres\n\nWritten by `just differential`, %s.\nSeeds 1 to %d, each played on the statements and on their reference in memory.\n"+
		"After each of %d operations the answers and all rows were the same.\n\n| operation | done |\n|---|---:|\n", evidence.Source(), played, total(done))
	for _, m := range slices.Sorted(maps.Keys(done)) {
		fmt.Fprintf(&b, "| %s | %d |\n", m, done[m])
	}
	if err := os.WriteFile(*historiesPage, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
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
