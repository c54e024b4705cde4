package operate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestReplay: a dead delivery is sent again as a new one with the same bytes, its
// event stays processed, and it is on record who wanted it.
func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(2, "quote.sent")
	w.insert(1, "visit.due")
	w.once()
	w.p.answer = nil
	res := w.do(operate.Request{Action: operate.Replay, Rate: -1, Filter: operate.Filter{Types: []string{"quote.*"}}})
	if res.Matched != 2 || res.Done != 2 || len(res.New) != 2 || len(res.Refused) != 0 {
		t.Fatalf("%+v", res)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox_events where processed_at is null`); n != 0 {
		t.Errorf("%d events are open again", n)
	}
	w.once()
	if n := w.count(`state = 'delivered' and generation = 1 and attempts = 1 and finished_at is not null`); n != 2 || w.count(`state = 'dead'`) != 3 {
		t.Errorf("%d replays were delivered", n)
	}
	got := []string{string(w.p.sent[0].Content), string(w.p.sent[1].Content)}
	slices.Sort(got)
	if len(w.p.sent) != 2 || got[0] != `{"n": 1}` || got[1] != `{"n": 2}` || !slices.Contains(res.New, w.p.sent[0].ID) {
		t.Errorf("sent %d: %v", len(w.p.sent), got)
	}
	again := w.do(operate.Request{Action: operate.Replay, Filter: operate.Filter{IDs: res.IDs}})
	if again.Done != 0 || len(again.Refused) != 1 || again.Refused[0].Reason != "there is a newer delivery in its place" {
		t.Errorf("replayed again: %+v", again)
	}
	audit := pgtest.QueryVals[string](t, w.db, `select concat_ws(' ', who, via, origin, action, filter, count, reason) from outbox.audit`)
	if len(audit) != 1 || audit[0] != `kim command desk replay {"types":["quote.*"]} 2 fixed` {
		t.Errorf("audit: %q", audit)
	}
	if ids := pgtest.QueryVal[[]uuid.UUID](t, w.db, `select deliveries from outbox.audit`); !slices.Equal(ids, res.New) {
		t.Errorf("audit has %v, want %v", ids, res.New)
	}

	// Opened again, an event knows that its replay arrived.
	pgtest.Exec(t, w.db, `update outbox_events set processed_at = null where type = 'quote.sent'`)
	w.once()
	if len(w.p.sent) != 2 {
		t.Errorf("what a replay delivered was sent again: %v", w.p.taken())
	}
	// And one whose replay failed goes on from that.
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'dead', stuck_at = now() where generation = 1 and event_type = 'quote.sent'`)
	pgtest.Exec(t, w.db, `update outbox_events set processed_at = null where type = 'quote.sent'`)
	w.once()
	if n := w.count(`state = 'delivered' and generation = 2`); n != 2 || len(w.p.sent) != 4 {
		t.Errorf("%d of the third generation, %d sent", n, len(w.p.sent))
	}
}

// TestReplayOfAReplay: each time that one fails it can be replayed, under an id
// of its own.
func TestReplayOfAReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(1, "quote.sent")
	w.once()
	for g := 1; g <= 3; g++ {
		res := w.do(operate.Request{Action: operate.Replay, Filter: operate.Filter{Types: []string{"quote.sent"}}})
		if res.Matched != g || res.Done != 1 {
			t.Fatalf("generation %d: %+v", g, res)
		}
		w.once()
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(distinct id) from outbox.deliveries where state = 'dead'`); n != 4 {
		t.Errorf("%d deliveries", n)
	}
}

// TestReplayWithoutContent: what was delivered or skipped is planned anew, and
// only where that was asked for.
func TestReplayWithoutContent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, before string
		even         bool
		refused      string
		state, error string
	}{
		{"delivered", `select`, false, "delivered", "", ""},
		{"delivered, and meant", `select`, true, "", "delivered", ""},
		{"skipped", `update outbox.deliveries set state = 'skipped', attempts = 0`, false, "", "delivered", ""},
		{"its event has no route any more", `update outbox_events set type = 'gone'; update outbox.deliveries set event_type = 'gone'`, true, "",
			"skipped", "not replayed: its event does not become this delivery today"},
		{"it is none of its event's today", `update outbox.deliveries set step = 'other', id = gen_random_uuid()`, true, "",
			"skipped", "not replayed: its event does not become this delivery today"},
		{"its event was deleted", `delete from outbox_events`, true, "its event was deleted, and its content is not kept", "", ""},
		{"its event had none", `update outbox.deliveries set state = 'skipped', channel = ''`, false, "its event had no delivery; open the event again", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.insert(1, "quote.sent")
			w.once()
			for _, sql := range strings.Split(tt.before, ";") {
				pgtest.Exec(t, w.db, sql)
			}
			id := pgtest.QueryVal[uuid.UUID](t, w.db, `select id from outbox.deliveries`)
			res := w.do(operate.Request{Action: operate.Replay, EvenDelivered: tt.even, Filter: operate.Filter{IDs: []uuid.UUID{id}}})
			if tt.refused != "" {
				if res.Done != 0 || len(res.Refused) != 1 || res.Refused[0].Reason != tt.refused || w.count(`true`) != 1 {
					t.Errorf("%+v", res)
				}
				return
			}
			if res.Done != 1 {
				t.Fatalf("%+v", res)
			}
			w.once()
			got := pgtest.QueryVal[string](t, w.db, `select state || ' ' || coalesce(last_error, '') from outbox.deliveries where generation = 1`)
			if want := tt.state + " " + tt.error; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if tt.state == "delivered" && (len(w.p.sent) != 2 || string(w.p.sent[1].Content) != `{"n": 1}`) {
				t.Errorf("sent %v", w.p.sent)
			}
		})
	}
}

// TestReplayDropsADeadline that has passed, and keeps one that has not.
func TestReplayDropsADeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(2, "quote.sent")
	w.once()
	pgtest.Exec(t, w.db, `update outbox.deliveries set deadline = now() + case when content ->> 'n' = '1' then interval '-1 hour' else interval '1 hour' end`)
	w.do(operate.Request{Action: operate.Replay, Filter: operate.Filter{Types: []string{"quote.sent"}}})
	if got := pgtest.QueryVals[string](t, w.db, `select (content ->> 'n') || ' ' || (deadline is null) from outbox.deliveries where generation = 1 order by 1`); fmt.Sprint(got) != "[1 true 2 false]" {
		t.Error(got)
	}
}

// TestRate: replays are due one after the other.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		rate float64
		want float64 // seconds between the first and the last of 11
	}{
		{"ten a second, when nothing is said", 0, 1},
		{"one in two seconds", 0.5, 20},
		{"all at once", -1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rejected)
			w.insert(11, "quote.sent")
			w.once()
			if res := w.do(operate.Request{Action: operate.Replay, Rate: tt.rate, Filter: operate.Filter{Types: []string{"quote.*"}}}); res.Done != 11 {
				t.Fatalf("%+v", res)
			}
			if d := pgtest.QueryVal[float64](t, w.db, `select extract(epoch from max(due_at) - min(due_at))::float8 from outbox.deliveries where state = 'ready'`); d != tt.want {
				t.Errorf("%g s between the first and the last", d)
			}
		})
	}
}
