package bench

import (
	"context"
	"testing"
	"time"
)

// TestScriptLeavesTheSame has the listener and the script do the same events,
// and compares what is in the tables then: a script that writes less, or more, is
// no limit of anything.
func TestScriptLeavesTheSame(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	ctx := context.Background()
	s, err := openServer(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	const n = 250
	filled := func() *database {
		db, err := s.filled(ctx, n, payload)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	ours := filled()
	defer ours.drop()
	r := &run{self: buildListener(t), temp: t.TempDir()}
	d, err := r.launch(ours, batch(100))
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := ours.drained(limited, d); err != nil {
		t.Fatal(err)
	}
	want := left(t, ours)
	if want.deliveries == "" || want.events == "" {
		t.Fatal("nothing to compare with")
	}
	for _, connections := range []int{1, 3} {
		db := filled()
		defer db.drop()
		if _, err := db.runScript(ctx, 100, connections); err != nil {
			t.Fatal(err)
		}
		if got := left(t, db); got != want {
			t.Errorf("%d connections leave\n%+v\nthe listener\n%+v", connections, got, want)
		}
	}
}

// tables is what is in the two tables, with how many rows there are of each
// kind. What differs from row to row is told by what it has to be, or not.
type tables struct{ deliveries, events string }

func left(t *testing.T, db *database) (all tables) {
	t.Helper()
	err := db.pool.QueryRow(context.Background(), `
		select
			(select string_agg(n || ' of ' || kind, '; ' order by kind) from (
				select count(*) as n, (to_jsonb(d) - array['id', 'event_id', 'event_seq', 'event_created_at', 'created_at', 'finished_at'])::text
					|| (d.event_id = e.id) || (d.event_created_at = e.created_at) || (d.created_at = d.finished_at)
					|| (left(replace(d.id::text, '-', ''), 12) = lpad(to_hex(e.seq), 12, '0')) as kind
				from outbox.deliveries as d join public.outbox_events as e on e.seq = d.event_seq
				group by kind) as kinds),
			(select string_agg(n || ' of ' || kind, '; ' order by kind) from (
				select count(*) as n, (to_jsonb(e) - array['id', 'seq', 'payload', 'created_at', 'processed_at', 'claim'])::text
					|| (e.processed_at is not null) || (e.claim is not null) as kind
				from public.outbox_events as e
				group by kind) as kinds)`).Scan(&all.deliveries, &all.events)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
