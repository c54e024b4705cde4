package listener

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestCrashesOfAnEventGoOn: what an event had on its account counts for its deliveries, once it
// is on record with them.
func TestCrashesOfAnEventGoOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := &store{pool: db.Pool}
	for _, tt := range []struct {
		name, event, own string // columns count, alone and at; "" for no row
		want             int
	}{
		{"none has", "", "", 1},
		{"the event has", "1, false, now()", "", 2},
		{"the event was not alone the last time", "2, false, now()", "", 2},
		{"the event was alone", "2, true, now()", "", 3},
		{"the event has, of yesterday", "2, true, now() - interval '25 hours'", "", 1},
		{"it has its own", "2, true, now()", "1, false, now()", 2},
	} {
		id, origin := uuid.New(), uuid.New()
		for of, row := range map[uuid.UUID]string{origin: tt.event, id: tt.own} {
			if row != "" {
				pgtest.Exec(t, db, `insert into outbox.crashes (id, count, alone, at) values ($1, `+row+`)`, of)
			}
		}
		got, err := s.noteCrashes(t.Context(), only(id), only(origin), 3)
		if err != nil || got[id] != tt.want {
			t.Errorf("%s: %v, %v; want %d", tt.name, got, err, tt.want)
		}
	}
}

func only(id uuid.UUID) (ids uuids) {
	ids.add(id)
	return ids
}

// TestAloneIsOfThatTime: that an event was tried alone is held against those of its deliveries that
// were under way then, and not against one that is under way when something else brings a listener down.
func TestAloneIsOfThatTime(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := &store{pool: db.Pool}
	a, b, later, event := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	pgtest.Exec(t, db, `insert into outbox.crashes (id, count, alone) values ($1, 2, true)`, event)
	then, err := s.noteCrashes(t.Context(), append(only(a), only(b)...), append(only(event), only(event)...), 3)
	if err != nil || then[a] != 3 || then[b] != 3 {
		t.Errorf("under way when it was tried alone: %v, %v; want 3 of each", then, err)
	}
	afterwards, err := s.noteCrashes(t.Context(), only(later), only(event), 3)
	if err != nil || afterwards[later] != 2 {
		t.Errorf("under way another time: %v, %v; want 2", afterwards, err)
	}
	none := uuids{{}}
	pgtest.Exec(t, db, `insert into outbox.crashes (id, count, alone) values ($1, 2, true)`, uuid.Nil)
	if got, err := s.noteCrashes(t.Context(), only(uuid.Max), none, 3); err != nil || got[uuid.Max] != 1 {
		t.Errorf("an event of its own, beside one whose id is zero: %v, %v; want 1", got, err)
	}
}

// TestWhatWasTried: what was put off, or given back, has not shown that it brings nobody down.
func TestWhatWasTried(t *testing.T) {
	t.Parallel()
	over := func(w work) work {
		if w.event != nil {
			w.event.over.Store(true)
		} else {
			w.job.over.Store(true)
		}
		return w
	}
	sent := &dispatch.Outcome{State: dispatch.Delivered}
	for _, tt := range []struct {
		name        string
		w           work
		over, tried bool
	}{
		{"a delivery under way", work{job: &job{}}, false, false},
		{"a delivery that was sent", over(work{job: &job{outcome: sent}}), true, true},
		{"a delivery that was put off", over(work{job: &job{outcome: sent, idle: true}}), true, false},
		{"a delivery that was let go", over(work{job: &job{}}), true, false},
		{"an event under way", work{event: &event{begun: time.Now()}}, false, false},
		{"an event that was given back", over(work{event: &event{}}), true, false},
		{"an event that came to nothing", over(work{event: &event{begun: time.Now()}}), true, true},
		{"an event that was sent", over(work{event: &event{begun: time.Now(), jobs: []*job{{outcome: sent}}}}), true, true},
		{"an event that was put off", over(work{event: &event{begun: time.Now(), jobs: []*job{{outcome: sent, idle: true}}}}), true, false},
	} {
		if got := tt.w.over(); got != tt.over {
			t.Errorf("%s: over is %t", tt.name, got)
		}
		if got := tt.w.tried(); tt.over && got != tt.tried {
			t.Errorf("%s: tried is %t", tt.name, got)
		}
	}
}
