package listener

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// month is the retention of these tests; old is twice that.
const (
	month = 30 * 24 * time.Hour
	old   = `now() - interval '60 days'`
)

// pruners returns the two of a listener on db that keeps what is over for a
// month.
func pruners(t *testing.T, db *pgtest.DB) (s *store, ledger, events *pruner) {
	t.Helper()
	l, err := New(Config{Pool: db.Pool, Dispatcher: dispatch.New(), RetainLedger: month, RetainProcessed: month})
	if err != nil {
		t.Fatal(err)
	}
	all := l.newPruners()
	if len(all) != 2 {
		t.Fatalf("%d pruners", len(all))
	}
	return l.store.(*store), all[0], all[1]
}

// round lets p delete all there is to delete at the moment, and sees that it says how long it has been at it.
func round(t *testing.T, s *store, p *pruner, want int) {
	t.Helper()
	var before time.Duration
	gone, err := p.round(t.Context(), s, func(took, since time.Duration) bool {
		if since < before+took {
			t.Errorf("%s: %s into the round and then a batch of %s are said to be %s", p.table, before, took, since)
		}
		before = since
		return true
	})
	if err != nil || gone != want {
		t.Errorf("%s: %d rows deleted, want %d; %v", p.table, gone, want, err)
	}
}

// addDelivery puts a row into the ledger for each event of one type.
func addDelivery(t *testing.T, db *pgtest.DB, typ, step, state, finished string) {
	t.Helper()
	pgtest.Exec(t, db, `insert into outbox.deliveries
		(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, created_at, finished_at)
		select overlay(md5(id::text || $2) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid,
			id, seq, type, created_at, '', $2, '', '', $3, 1, created_at, `+finished+`
		from outbox_events where type = $1`, typ, step, state)
}

// TestPruneRests: a pruner that found nothing does not come back each minute, and
// keeps nothing for much longer than it was told to.
func TestPruneRests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		keep time.Duration
		gone int
		err  error
		want time.Duration
	}{
		{"something was deleted", month, 1, nil, time.Minute},
		{"it did not work", month, 0, context.DeadlineExceeded, time.Minute},
		{"nothing to delete", month, 0, nil, month / 1000},
		{"nothing of a long retention", 12 * month, 0, nil, time.Hour},
		{"nothing of a short one", time.Hour, 0, nil, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&pruner{keep: tt.keep}).rest(tt.gone, tt.err); got != tt.want {
				t.Errorf("rests for %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPrunePauses: a round that does not come to an end takes more of the time with each minute, up to a third.
func TestPrunePauses(t *testing.T) {
	t.Parallel()
	for since, want := range map[time.Duration]time.Duration{
		0: 20 * time.Second, 59 * time.Second: 20 * time.Second, time.Minute: 10 * time.Second, 2 * time.Minute: 5 * time.Second,
		3 * time.Minute: 2 * time.Second, 4 * time.Minute: 2 * time.Second, month: 2 * time.Second,
	} {
		if got := prunePause(time.Second, since); got != want {
			t.Errorf("after %s a batch of a second is followed by a pause of %s, want %s", since, got, want)
		}
	}
}

// TestPruneEvents: what was processed long ago goes, and nothing else.
func TestPruneEvents(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, _, p := pruners(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at, lease_until) values
		('held',      '{}', `+old+`, null, 'infinity'),
		('scheduled', '{}', `+old+`, `+old+`, null),
		('arrived',   '{}', `+old+`, `+old+`, null),
		('by hand',   '{}', `+old+`, `+old+`, null),
		('late',      '{}', `+old+`, now(), null),
		('dead',      '{}', `+old+`, `+old+`, null),
		('never',     '{}', 'infinity', 'infinity', null),
		('waiting',   '{}', `+old+`, null, null),
		('worked on', '{}', `+old+`, null, now() + interval '20 s'),
		('young',     '{}', now(), now(), null)`)
	pgtest.Exec(t, db, `alter table outbox_events disable trigger outbox_events_seq`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at, seq) values ('adopted', '{}', `+old+`, `+old+`, null)`)
	addDelivery(t, db, "held", "a", "held", "null")
	addDelivery(t, db, "scheduled", "a", "scheduled", "null")
	addDelivery(t, db, "scheduled", "b", "delivered", old)
	addDelivery(t, db, "arrived", "a", "delivered", old)
	addDelivery(t, db, "dead", "a", "dead", old)
	round(t, s, p, 3)
	round(t, s, p, 0)
	const left = `select string_agg(type, ', ' order by type) from outbox_events`
	if got, want := pgtest.QueryVal[string](t, db, left), "adopted, held, late, never, scheduled, waiting, worked on, young"; got != want {
		t.Errorf("left are %s; want %s", got, want)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries`); n != 5 {
		t.Errorf("%d deliveries left of 5", n)
	}

	// What had to stay and may go now is found when the walk begins anew.
	pgtest.Exec(t, db, `update outbox_events set processed_at = `+old+`, lease_until = null where type in ('held', 'late')`)
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'canceled', finished_at = now(), stuck_at = null where state in ('held', 'scheduled')`)
	round(t, s, p, 0)
	p.begun = p.begun.Add(-pruneAnew)
	round(t, s, p, 3)
}

// TestPruneLedger: the deliveries of an event go together, with their
// attempts, when the last of them has been over for long enough.
func TestPruneLedger(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, p, _ := pruners(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at) values
		('held',      '{}', `+old+`, null),
		('arrived',   '{}', `+old+`, `+old+`),
		('deleted',   '{}', `+old+`, `+old+`),
		('opened',    '{}', `+old+`, null),
		('half',      '{}', `+old+`, `+old+`),
		('late',      '{}', `+old+`, now()),
		('scheduled', '{}', `+old+`, `+old+`),
		('dead',      '{}', `+old+`, `+old+`)`)
	for _, d := range []struct{ typ, step, state, finished string }{
		{"held", "a", "held", "null"},
		{"arrived", "a", "delivered", old},
		{"arrived", "b", "skipped", old},
		{"deleted", "a", "delivered", old},
		{"opened", "a", "delivered", old},
		{"half", "a", "delivered", old},
		{"half", "b", "dead", "now()"},
		{"late", "a", "expired", "now()"},
		{"scheduled", "a", "scheduled", "null"},
		{"scheduled", "b", "delivered", old},
		{"dead", "a", "dead", old},
	} {
		addDelivery(t, db, d.typ, d.step, d.state, d.finished)
	}
	pgtest.Exec(t, db, `insert into outbox.attempts (delivery_id, attempt, took, state)
		select id, n, '1 s', 'retry' from outbox.deliveries, generate_series(1, 2) as n`)
	pgtest.Exec(t, db, `delete from outbox_events where type = 'deleted'`)
	round(t, s, p, 4)
	round(t, s, p, 0)
	const left = `select string_agg(event_type || ' ' || step, ', ' order by event_type, step) from outbox.deliveries`
	if got, want := pgtest.QueryVal[string](t, db, left), "half a, half b, held a, late a, opened a, scheduled a, scheduled b"; got != want {
		t.Errorf("left are %s; want %s", got, want)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.attempts`); n != 2*7 {
		t.Errorf("%d attempts left of 7 deliveries with 2 each", n)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events`); n != 7 {
		t.Errorf("%d events left of 7", n)
	}
}

// TestPruneOpenedAgain: what an event brought along from its former place goes
// and stays with what it got in the new one, whichever the walk comes to first.
func TestPruneOpenedAgain(t *testing.T) {
	t.Parallel()
	for _, from := range []int64{0, 3} { // 3: above its former place
		t.Run(strconv.FormatInt(from, 10), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, ledger, events := pruners(t, db)
			ledger.from, ledger.begun = from, time.Now()
			pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at) values
				('again', '{}', `+old+`, `+old+`), ('held', '{}', `+old+`, `+old+`), ('other', '{}', `+old+`, `+old+`)`)
			addDelivery(t, db, "again", "a", "dead", old)
			addDelivery(t, db, "held", "a", "held", "null")
			pgtest.Exec(t, db, `update outbox_events set processed_at = null where type in ('again', 'held')`)
			addDelivery(t, db, "again", "b", "delivered", "now()")
			round(t, s, ledger, 0) // the event is open
			pgtest.Exec(t, db, `update outbox_events set processed_at = `+old)
			round(t, s, ledger, 0) // a part of it is young
			pgtest.Exec(t, db, `update outbox.deliveries set finished_at = `+old+` where state = 'delivered'`)
			round(t, s, ledger, 2)
			round(t, s, events, 2) // not the one that holds a delivery of its former place
			if got := pgtest.QueryVal[string](t, db, `select string_agg(event_type || ' ' || event_seq, ', ') from outbox.deliveries`); got != "held 5" {
				t.Errorf("left is %s", got)
			}
		})
	}
}

// TestPruneGoesOn: neither more than a batch of rows that have to stay, nor an
// event with more than a batch of deliveries, stops the walk.
func TestPruneGoesOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, ledger, events := pruners(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at, lease_until)
		select 'held', '{}', `+old+`, null, 'infinity' from generate_series(1, 1200)`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at)
		select 'arrived', '{}', `+old+`, `+old+` from generate_series(1, 1200)`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at) values ('many', '{}', `+old+`, `+old+`)`)
	addDelivery(t, db, "held", "a", "held", "null")
	addDelivery(t, db, "arrived", "a", "delivered", old)
	pgtest.Exec(t, db, `insert into outbox.deliveries
		(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, created_at, finished_at)
		select overlay(md5(id::text || n) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid,
			id, seq, type, created_at, '', n::text, '', '', 'delivered', 1, created_at, created_at
		from outbox_events, generate_series(1, 700) as n where type = 'many'`)
	round(t, s, ledger, 1900)
	round(t, s, events, 1201)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events as e join outbox.deliveries as d on d.event_seq = e.seq where e.type = 'held'`); n != 1200 {
		t.Errorf("%d of 1200 held ones left", n)
	}
}

// TestPruneCostsWhatItDeletes: a batch reads neither what is younger nor what
// was looked at before, however much of it there is.
func TestPruneCostsWhatItDeletes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, ledger, events := pruners(t, db)
	fill := func(typ, at string, n int) {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at)
			select $1, '{}', `+at+`, `+at+` from generate_series(1, $2)`, typ, n)
		addDelivery(t, db, typ, "a", "delivered", at)
	}
	fill("old", old, 50)
	fill("young", "now()", 30000)
	pgtest.Exec(t, db, `analyze outbox_events`) // of which none is open
	for _, p := range []*pruner{ledger, events} {
		for _, want := range []int{50, 0} {
			// 15 or so for each row that is deleted, and the 500 that are looked at.
			if n := pages(t, db, p, p.from); n > 200+20*want {
				t.Errorf("%s: a batch that deletes %d reads %d pages", p.table, want, n)
			}
			round(t, s, p, want)
		}
		if p.from == 0 || p.from > 50 {
			t.Errorf("%s: came to %d, the last old one is 50", p.table, p.from)
		}
	}
}

// pages is how many pages a batch reads, with the listener's plan settings.
func pages(t *testing.T, db *pgtest.DB, p *pruner, from int64) int {
	t.Helper()
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), settings, forgetable, walks.nested, walks.hashed, walks.cache); err != nil {
		t.Fatal(err)
	}
	var text string
	rows, _ := tx.Query(t.Context(), `explain (analyze, buffers, costs off) `+p.query, from, pruneBatch, p.keep.Seconds())
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		text += line + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "Seq Scan on ") {
		t.Errorf("%s reads a whole table:\n%s", p.table, text)
	}
	n := 0
	for line := range strings.Lines(text) {
		if _, counts, ok := strings.Cut(line, "Buffers: shared "); ok { // of the top node
			for word := range strings.FieldsSeq(counts) {
				if name, v, _ := strings.Cut(word, "="); name == "hit" || name == "read" {
					pages, err := strconv.Atoi(v)
					if err != nil {
						t.Fatal(err)
					}
					n += pages
				}
			}
			break
		}
	}
	t.Logf("%s above %d: %d pages", p.table, from, n)
	return n
}

// TestPrunersShare: two at once delete everything once, and neither waits for
// what somebody else holds.
func TestPrunersShare(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, ledger, events := pruners(t, db)
	_, ledger2, events2 := pruners(t, db)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at)
		select 'arrived', '{}', `+old+`, `+old+` from generate_series(1, 4000)`)
	addDelivery(t, db, "arrived", "a", "delivered", old)

	// One is being opened again, and the ledger of another is touched.
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	for _, sql := range []string{
		`update outbox_events set processed_at = null where seq = 1000`,
		`update outbox.deliveries set content = null where event_seq = 2000`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	both := func(a, b *pruner) (gone int) {
		var wg sync.WaitGroup
		var counts [2]int
		for i, p := range []*pruner{a, b} {
			wg.Go(func() {
				n, err := p.round(t.Context(), s, func(_, _ time.Duration) bool { return true })
				if err != nil {
					t.Errorf("%s: %v", p.table, err)
				}
				counts[i] = n
			})
		}
		wg.Wait()
		return counts[0] + counts[1]
	}
	if n := both(ledger, ledger2); n != 3998 {
		t.Errorf("%d of 3998 deliveries deleted", n)
	}
	if n := both(events, events2); n != 3999 {
		t.Errorf("%d of 3999 events deleted", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*pruner{ledger, events} {
		p.begun = p.begun.Add(-pruneAnew)
	}
	round(t, s, ledger, 1)
	round(t, s, events, 0)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events as e join outbox.deliveries as d on d.event_seq = e.seq and d.event_id = e.id
		where e.processed_at is null`); n != 1 {
		t.Errorf("%d events left that were opened again, with their ledger", n)
	}
}

func TestRetentionDefaults(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://localhost/none") // never connected to
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, tt := range []struct {
		name           string
		ledger, events time.Duration
		want           []string
	}{
		{"by default", 0, 0, []string{"outbox.deliveries 720h0m0s"}},
		{"nothing at all", Forever, Forever, nil},
		{"events alone", Forever, time.Hour, []string{"public.outbox_events 1h0m0s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := New(Config{Pool: pool, Dispatcher: dispatch.New(), RetainLedger: tt.ledger, RetainProcessed: tt.events})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range l.newPruners() {
				got = append(got, fmt.Sprint(p.table, " ", p.keep))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
