package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// withBacklog is a table in which 2,500 events wait, the i-th since i hours
// ago, and as many are processed.
func withBacklog(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `
		insert into outbox_events (type, payload, created_at, processed_at)
		select case when i % 5 = 0 then 'quote.sent' else 'lead.created' end, jsonb_build_object('i', i), now() - i * interval '1 hour', p
		from generate_series(1, 2500) as i, unnest(array[null, now()]) as p
		order by random()`)
	return db
}

const (
	places   = `select count(seq) from outbox_events`
	inOrder  = `select coalesce(string_agg(payload ->> 'i', ' ' order by seq) = string_agg(payload ->> 'i', ' ' order by created_at, id), true) from outbox_events where seq is not null`
	choiceIs = `select backlog || ' ' || (backlog_done_at is not null) from outbox.state`
)

func TestBacklogIsAskedFor(t *testing.T) {
	t.Parallel()
	db := withBacklog(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at) values (E'evil\x1b[2J', '{}', '-infinity')`)
	before := catalog(t, db)
	_, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{})
	ask, ok := errors.AsType[*migrations.BacklogError](err)
	if !ok {
		t.Fatalf("Up: %v; want a BacklogError", err)
	}
	sameCatalog(t, catalog(t, db), before)
	if w := ask.Waiting; len(w) != 3 || w[0].Type != "lead.created" || w[0].Count != 2000 || w[1].Count != 500 || w[2].Count != 1 {
		t.Errorf("waiting %+v", ask.Waiting)
	}
	if newest := ask.AskedAt.Sub(ask.Waiting[0].Newest); newest < time.Hour || newest > time.Hour+time.Minute {
		t.Errorf("the newest is %v old", newest)
	}
	wantError(t, err, "events wait", "2501 in all", "lead.created  ", "2000", "(104 days ago)", `"evil\x1b[2J"`, "unknown",
		"--backlog deliver", "--backlog skip", "Nothing was changed")
	if strings.Contains(err.Error(), "\x1b") {
		t.Error("a row reaches the terminal")
	}
}

func TestBacklogChoices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		choice migrations.Backlog
		want   int64
		state  string
	}{
		{"deliver", migrations.Backlog{Choice: migrations.ChoiceDeliver}, 2500, "deliver true"},
		{"skip", migrations.Backlog{Choice: migrations.ChoiceSkip}, 0, "skip true"},
		{"since", migrations.Backlog{Choice: migrations.ChoiceSince, Since: time.Now().Add(-30*time.Minute - 1500*time.Hour)}, 1500, "since true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := withBacklog(t)
			const processed = `select md5(string_agg(ctid::text || xmin || xmax, ',' order by id)) from outbox_events where processed_at is not null`
			rows := pgtest.QueryVal[string](t, db, processed)
			rep := up(t, db, migrations.Options{Backlog: tt.choice})
			if rep.Placed != tt.want || !rep.Adopted {
				t.Errorf("report %+v", rep)
			}
			if n := pgtest.QueryVal[int64](t, db, places); n != tt.want {
				t.Errorf("%d events have a place, want %d", n, tt.want)
			}
			if !pgtest.QueryVal[bool](t, db, inOrder) {
				t.Error("the places are not in order of created_at")
			}
			if got := pgtest.QueryVal[string](t, db, choiceIs); got != tt.state {
				t.Errorf("state %q", got)
			}
			if pgtest.QueryVal[string](t, db, processed) != rows {
				t.Error("processed events were touched")
			}

			// New events are delivered whatever was decided.
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('new', '{}')`)
			if n := pgtest.QueryVal[int64](t, db, places); n != tt.want+1 {
				t.Error("a new event has no place")
			}
			// And so is an old one that somebody opens again.
			pgtest.Exec(t, db, `update outbox_events set processed_at = null where id = (select id from outbox_events where processed_at is not null limit 1)`)
			if n := pgtest.QueryVal[int64](t, db, places); n != tt.want+2 {
				t.Error("an event that was opened again has no place")
			}
			// Once more changes nothing, with the choice or without.
			for _, b := range []migrations.Backlog{{}, tt.choice} {
				if rep := up(t, db, migrations.Options{Backlog: b}); rep.Placed != 0 || len(rep.Warnings) != 0 {
					t.Errorf("again: %+v", rep)
				}
			}
		})
	}
}

func TestBacklogDecidedAnew(t *testing.T) {
	t.Parallel()
	db := withBacklog(t)
	since := func(hours int) migrations.Options {
		return migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceSince, Since: time.Now().Add(-30*time.Minute - time.Duration(hours)*time.Hour)}}
	}
	choose := func(c migrations.Choice) migrations.Options {
		return migrations.Options{Backlog: migrations.Backlog{Choice: c}}
	}
	for i, step := range []struct {
		opt     migrations.Options
		placed  int64
		warning bool
	}{
		{choose(migrations.ChoiceSkip), 0, false},
		{since(10), 10, false},
		{since(100), 90, false},
		{since(50), 0, false},
		{choose(migrations.ChoiceDeliver), 2400, false},
		{choose(migrations.ChoiceSkip), 0, true},
		{since(5), 0, true},
		{migrations.Options{}, 0, false},
	} {
		rep := up(t, db, step.opt)
		if rep.Placed != step.placed || (len(rep.Warnings) > 0) != step.warning {
			t.Errorf("step %d: %d placed, warnings %q", i, rep.Placed, rep.Warnings)
		}
	}
	if n := pgtest.QueryVal[int64](t, db, places); n != 2500 {
		t.Errorf("%d events have a place", n)
	}
}

// TestSkipLeavesWhatWasCounted: also an event that claims to be from the future.
func TestSkipLeavesWhatWasCounted(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at) select 'a', '{}', now() + i * interval '1 hour' from generate_series(-3, 3) as i`)
	up(t, db, migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}})
	if n := pgtest.QueryVal[int](t, db, places); n != 0 {
		t.Errorf("%d events would be delivered", n)
	}
}

// TestBacklogMeetsLocks: an event that somebody holds is waited for in short
// turns; what has its place keeps it, and the rest follows later.
func TestBacklogMeetsLocks(t *testing.T) {
	t.Parallel()
	db := withBacklog(t)
	up(t, db, migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}})
	holder := connect(t, db, "")
	exec(t, holder, `begin; select from outbox_events where processed_at is null and payload ->> 'i' = '1200' for update`)
	opt := quick
	opt.Backlog = migrations.Backlog{Choice: migrations.ChoiceDeliver}
	_, err := migrations.Up(t.Context(), connect(t, db, ""), opt)
	wantError(t, err, "delivering the backlog", "1000 waiting events have their places", fmt.Sprintf("pid %d", holder.PgConn().PID()))
	if n := pgtest.QueryVal[int64](t, db, places); n != 1000 {
		t.Errorf("%d events have a place", n)
	}
	exec(t, holder, `update outbox_events set processed_at = now() where payload ->> 'i' = '1200'`)
	exec(t, holder, `commit`)
	if rep := up(t, db, quick); rep.Placed != 1499 {
		t.Errorf("%d events got their places at the second run", rep.Placed)
	}
	if !pgtest.QueryVal[bool](t, db, inOrder) {
		t.Error("the places are not in order of created_at")
	}
}

func TestParseBacklog(t *testing.T) {
	t.Parallel()
	at := func(s string) migrations.Backlog {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return migrations.Backlog{Choice: migrations.ChoiceSince, Since: v}
	}
	for _, tt := range []struct {
		in   string
		want migrations.Backlog
	}{
		{"", migrations.Backlog{}},
		{"deliver", migrations.Backlog{Choice: migrations.ChoiceDeliver}},
		{"skip", migrations.Backlog{Choice: migrations.ChoiceSkip}},
		{"2026-11-01", at("2026-11-01T00:00:00Z")},
		{"2026-11-01T10:00:00+02:00", at("2026-11-01T08:00:00Z")},
	} {
		got, err := migrations.ParseBacklog(tt.in)
		if err != nil || got.Choice != tt.want.Choice || !got.Since.Equal(tt.want.Since) {
			t.Errorf("ParseBacklog(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	got, err := migrations.ParseBacklog("36h")
	if d := time.Since(got.Since); err != nil || d < 36*time.Hour || d > 36*time.Hour+time.Minute {
		t.Errorf("36h is %v ago, %v", d, err)
	}
	for _, in := range []string{"since", "yesterday", "-3h", "0s", "2026-13-01"} {
		if _, err := migrations.ParseBacklog(in); err == nil {
			t.Errorf("ParseBacklog(%q) took it", in)
		}
	}
}
