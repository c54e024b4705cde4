package operate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
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

// retrying has n deliveries that were not taken once and wait for an hour.
func retrying(w *world, n int) {
	w.t.Helper()
	w.p.answer = down
	w.insert(n, "quote.sent")
	w.once()
	w.p.answer = nil
	pgtest.Exec(w.t, w.db, `update outbox.deliveries set due_at = now() + interval '1 hour'`)
	if got := w.count(`state = 'retry'`); got != n {
		w.t.Fatalf("%d of %d are retrying", got, n)
	}
}

// TestCancel: what is canceled is over, so is its event, and it is not sent.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 3)
	res := w.do(operate.Request{Action: operate.Cancel, Filter: operate.Filter{Types: []string{"quote.sent"}, Limit: 2}})
	if res.Done != 2 || w.count(`state = 'canceled' and finished_at is not null and due_at is null and last_error = 'canceled by kim: fixed'`) != 2 {
		t.Errorf("%+v", res)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox_events where processed_at is null`); n != 1 {
		t.Errorf("%d events are open", n)
	}
	w.once()
	if len(w.p.sent) != 0 {
		t.Errorf("sent %v", w.p.taken())
	}
	if res := w.do(operate.Request{Action: operate.Replay, Rate: -1, Filter: operate.Filter{IDs: res.IDs}}); res.Done != 2 {
		t.Errorf("what was canceled is not replayed: %+v", res)
	}
	w.once()
	if len(w.p.taken()) != 2 {
		t.Errorf("sent %v", w.p.taken())
	}
}

// TestHold: what is held is not sent until it is released, under the same id, and
// what was scheduled keeps its time.
func TestHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 2)
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'scheduled' where content ->> 'n' = '2'`)
	f := operate.Filter{Channels: []string{"carrier"}}
	if res := w.do(operate.Request{Action: operate.Hold, Filter: f}); res.Done != 2 || w.count(`state = 'held' and last_error = 'held by kim: fixed'`) != 2 {
		t.Fatalf("%+v", res)
	}
	if res := w.do(operate.Request{Action: operate.Hold, Filter: operate.Filter{States: []dispatch.State{"held"}}}); res.Done != 0 || res.Refused[0].Reason != "held already" {
		t.Errorf("%+v", res)
	}
	w.once()
	if res := w.do(operate.Request{Action: operate.Release, Filter: f}); res.Done != 2 || w.count(`state = 'scheduled' and due_at > now() + interval '50 minutes'`) != 1 {
		t.Fatalf("%+v", res)
	}
	w.once()
	if len(w.p.sent) != 1 || string(w.p.sent[0].Content) != `{"n": 1}` || w.count(`state = 'delivered' and attempts = 2 and generation = 0`) != 1 {
		t.Errorf("sent %v", w.p.sent)
	}
	// A time that passes while it is held has passed.
	w.do(operate.Request{Action: operate.Hold, Filter: f})
	pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() - interval '1 second' where state = 'held'`)
	w.once()
	if len(w.p.sent) != 1 || w.count(`state = 'held'`) != 1 {
		t.Error("what is held was sent when its time came")
	}
	w.do(operate.Request{Action: operate.Release, Filter: f})
	w.once()
	if len(w.p.sent) != 2 {
		t.Error("it was not sent when it was released")
	}
}

// TestDryRunWritesNothing: no row, no lock on a row, no line in the audit.
func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(2, "quote.sent")
	w.once()
	w.p.answer = down
	w.insert(3, "visit.due")
	w.once()
	rows := func() string {
		return pgtest.QueryVal[string](t, w.db, `select md5(string_agg(r, '')) from (
			select d::text || d.xmin || d.xmax as r from outbox.deliveries as d
			union all select e::text || e.xmin || e.xmax from outbox_events as e
			union all select a::text from outbox.audit as a order by 1) as all_rows`)
	}
	before := rows()
	for action, want := range map[operate.Action]int{operate.Replay: 2, operate.Cancel: 3, operate.Hold: 3, operate.Release: 0} {
		res := w.do(operate.Request{Action: action, DryRun: true, Filter: operate.Filter{Channels: []string{"carrier"}}})
		if res.Done != want || len(res.IDs) != want {
			t.Errorf("%s: %+v, want %d", action, res, want)
		}
	}
	if rows() != before {
		t.Error("a dry run changed rows")
	}
}

// TestWhatIsBeingSent can be neither replayed, canceled, held nor released,
// whether the ledger has it as sending or as leased.
func TestWhatIsBeingSent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		policy  dispatch.Policy
		again   bool // it is the second attempt
		refused string
	}{
		{"announced", dispatch.Policy{Announce: true}, false, "being sent at this moment"},
		{"announced again", dispatch.Policy{Announce: true}, true, "being sent at this moment"},
		{"leased", dispatch.Policy{}, true, "a listener works on it at this moment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			entered, gate := make(chan struct{}), make(chan struct{})
			w := newWorld(t, nil)
			if tt.again {
				retrying(w, 1)
				pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now()`)
			} else {
				w.insert(1, "quote.sent")
			}
			w.p.answer = func(*dispatch.Delivery) error { close(entered); <-gate; return nil }
			w.start(tt.policy)
			<-entered
			id := pgtest.QueryVal[uuid.UUID](t, w.db, `select id from outbox.deliveries`)
			for _, action := range []operate.Action{operate.Replay, operate.Cancel, operate.Hold, operate.Release} {
				res := w.do(operate.Request{Action: action, EvenDelivered: action == operate.Replay, Filter: operate.Filter{IDs: []uuid.UUID{id}}})
				if res.Done != 0 || len(res.Refused) != 1 || res.Refused[0].Reason != tt.refused {
					t.Errorf("%s: %+v", action, res)
				}
			}
			close(gate)
			w.await(1, `state = 'delivered'`)
			if n := w.count(`true`); n != 1 || len(w.p.sent) != 1 {
				t.Errorf("%d deliveries, sent %v", n, w.p.taken())
			}
			if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.audit`); n != 0 {
				t.Errorf("%d lines in the audit", n)
			}
		})
	}
}

// TestTwoOperators: of two who replay the same at once each delivery goes to one.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	const n = 700 // more than one batch
	w := newWorld(t, rejected)
	w.insert(n, "quote.sent")
	w.once()
	w.p.answer = nil
	w.start(dispatch.Policy{})
	var done, refused atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			res, err := w.o.Do(t.Context(), operate.Request{Action: operate.Replay, Rate: -1, By: kim, Filter: operate.Filter{Types: []string{"quote.*"}}})
			if err != nil {
				t.Error(err)
			}
			done.Add(int64(res.Done))
			for _, r := range res.Refused {
				refused.Add(int64(r.Count))
			}
		})
	}
	wg.Wait()
	if done.Load() != n {
		t.Errorf("%d replayed and %d refused, want %d", done.Load(), refused.Load(), n)
	}
	w.await(n, `state = 'delivered'`)
	for id, times := range w.p.taken() {
		if times != 1 {
			t.Errorf("%s sent %d times", id, times)
		}
	}
	if total := pgtest.QueryVal[int](t, w.db, `select sum(count) from outbox.audit`); total != n || len(w.p.taken()) != n {
		t.Errorf("%d in the audit, %d sent", total, len(w.p.taken()))
	}
}

// TestBesideAListener: while a listener retries, others cancel, hold, release and
// replay what it has. What ends as canceled was not taken by the provider, and
// what was taken was taken once.
func TestBesideAListener(t *testing.T) {
	t.Parallel()
	const n = 300
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
	}{
		{"announced", dispatch.Policy{Announce: true}},
		{"not announced", dispatch.Policy{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			retrying(w, n)
			var tries atomic.Int64
			w.p.answer = func(d *dispatch.Delivery) error {
				if tries.Add(1)%3 == 0 {
					return down(d)
				}
				return nil
			}
			pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() + random() * interval '1 second'`)
			stop1, stop2 := w.start(tt.policy), w.start(tt.policy)
			var wg sync.WaitGroup
			for i, action := range []operate.Action{operate.Cancel, operate.Hold, operate.Release, operate.Hold, operate.Release, operate.Replay} {
				wg.Go(func() {
					for range 30 {
						f := operate.Filter{Channels: []string{"carrier"}}
						switch action {
						case operate.Cancel:
							f.Limit = 3
						case operate.Replay:
							f.States = []dispatch.State{"canceled"}
							f.Limit = 1
						}
						_, err := w.o.Do(t.Context(), operate.Request{Action: action, By: operate.By{Who: fmt.Sprint(i), Via: "command"}, Filter: f, Rate: -1})
						if err != nil {
							t.Errorf("%s: %v", action, err)
						}
					}
				})
			}
			wg.Wait()
			w.do(operate.Request{Action: operate.Release, Filter: operate.Filter{Channels: []string{"carrier"}}})
			pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state = 'retry' and due_at > now() + interval '1 minute'`)
			pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
				pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state = 'retry' and get_byte(uuid_send(claim), 6) >> 4 = 5 and due_at > now()`)
				open := w.count(`finished_at is null`)
				return open == 0, fmt.Sprintf("%d open", open)
			})
			stop1()
			stop2()
			taken := w.p.taken()
			for id, times := range taken {
				if times != 1 {
					t.Errorf("%s was taken %d times", id, times)
				}
			}
			if delivered := w.count(`state = 'delivered'`); delivered != len(taken) {
				t.Errorf("%d delivered, %d taken", delivered, len(taken))
			}
			for _, id := range pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries where state = 'canceled'`) {
				if taken[id] != 0 {
					t.Errorf("%s is canceled and was taken", id)
				}
			}
			if left := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox_events where processed_at is null`); left != 0 {
				t.Errorf("%d events are open", left)
			}
			t.Logf("%d delivered, %d canceled", len(taken), w.count(`state = 'canceled'`))
		})
	}
}

// TestEventInHand: while an event waits to be claimed or is claimed, its
// deliveries are left to whoever claims it.
func TestEventInHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(1, "quote.sent")
	w.once()
	pgtest.Exec(t, w.db, `update outbox_events set processed_at = null`) // opened again
	for _, lease := range []string{"null", "now() + interval '1 hour'", "now() - interval '1 hour'"} {
		pgtest.Exec(t, w.db, `update outbox_events set lease_until = `+lease)
		res := w.do(operate.Request{Action: operate.Replay, Filter: operate.Filter{Types: []string{"quote.sent"}}})
		if res.Done != 0 || res.Refused[0].Reason != "its event is being worked on, or about to be" {
			t.Errorf("lease %s: %+v", lease, res)
		}
	}
}

// TestScheduledByAnOlderVersion: it left the claim of the event in what it
// scheduled, which is not a lease; that of a listener who took it up is.
func TestScheduledByAnOlderVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 1)
	pgtest.Exec(t, w.db, `update outbox.deliveries as d set state = 'scheduled', claim = e.claim from outbox_events as e`)
	f := operate.Filter{Types: []string{"quote.sent"}}
	if res := w.do(operate.Request{Action: operate.Hold, DryRun: true, Filter: f}); res.Done != 1 {
		t.Errorf("%+v", res)
	}
	pgtest.Exec(t, w.db, `update outbox.deliveries set claim = gen_random_uuid()`)
	if res := w.do(operate.Request{Action: operate.Hold, DryRun: true, Filter: f}); res.Done != 0 || res.Refused[0].Reason != "a listener works on it at this moment" {
		t.Errorf("%+v", res)
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	some := operate.Filter{Types: []string{"a"}}
	for _, tt := range []struct {
		name string
		r    operate.Request
		want string
	}{
		{"no action", operate.Request{Filter: some, By: kim}, `no action ""`},
		{"everything", operate.Request{Action: operate.Cancel, By: kim}, "say which deliveries"},
		{"a limit is no filter", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Limit: 3}, By: kim}, "say which deliveries"},
		{"nobody", operate.Request{Action: operate.Cancel, Filter: some}, "nobody is named"},
		{"a state", operate.Request{Action: operate.Cancel, Filter: operate.Filter{States: []dispatch.State{"lost"}}, By: kim}, `no state "lost"`},
		{"a star in the middle", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Types: []string{"a*b"}}, By: kim}, "a star stands at the end"},
		{"only a star", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Types: []string{"*"}}, By: kim}, "a star stands at the end"},
		{"an empty name", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Channels: []string{""}}, By: kim}, "an empty name"},
		{"since after until", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Since: time.Now(), Until: time.Unix(0, 0)}, By: kim}, "since has to be before until"},
		{"no text", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Error: "a\x00"}, By: kim}, "error is not text"},
		{"an endless reason", operate.Request{Action: operate.Cancel, Filter: some, By: operate.By{Who: "kim", Via: "command", Reason: strings.Repeat("x", 501)}}, "reason is longer than 500 bytes"},
		{"no ids at all", operate.Request{Action: operate.Cancel, Filter: operate.Filter{IDs: []uuid.UUID{}, Channels: []string{"sms"}}, By: kim}, "an empty list fits nothing"},
		{"no types at all", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Types: []string{}, Channels: []string{"sms"}}, By: kim}, "an empty list fits nothing"},
		{"no channels at all", operate.Request{Action: operate.Cancel, Filter: operate.Filter{Types: []string{"a"}, Channels: []string{}}, By: kim}, "an empty list fits nothing"},
		{"no states at all", operate.Request{Action: operate.Replay, Filter: operate.Filter{Types: []string{"a"}, States: []dispatch.State{}}, By: kim}, "an empty list fits nothing"},
		{"a rate that takes for ever", operate.Request{Action: operate.Replay, Rate: 1e-300, Filter: some, By: kim}, "a rate has to be 0.001 or more"},
		{"what may have arrived", operate.Request{Action: operate.Hold, EvenUncertain: true, Filter: some, By: kim}, "only a replay or a release"},
		{"delivered ones", operate.Request{Action: operate.Hold, EvenDelivered: true, Filter: some, By: kim}, "only a replay"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := w.o.Do(t.Context(), tt.r); !errors.Is(err, operate.ErrRequest) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rejected)
	w.insert(2, "quote.sent")
	w.insert(1, "quote.lost")
	w.insert(3, "visit.due")
	w.once()
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'held', finished_at = null, stuck_at = now() where event_type = 'quote.lost'`)
	pgtest.Exec(t, w.db, `update outbox.deliveries set last_error = 'Mailbox 100% full', stuck_at = now() - interval '3 hours' where event_type = 'visit.due'`)
	one := pgtest.QueryVal[uuid.UUID](t, w.db, `select id from outbox.deliveries where event_type = 'quote.lost'`)
	ago := func(h time.Duration) time.Time { return time.Now().Add(-h * time.Hour) }
	dead := []dispatch.State{dispatch.Dead}
	for _, tt := range []struct {
		name string
		f    operate.Filter
		want int
	}{
		{"nothing said", operate.Filter{}, 6},
		{"a type", operate.Filter{Types: []string{"quote.sent"}}, 2},
		{"types that begin so", operate.Filter{Types: []string{"quote.*"}}, 3},
		{"two types", operate.Filter{Types: []string{"quote.lost", "visit.*"}}, 4},
		{"no wildcards of SQL", operate.Filter{Types: []string{"quote_sent"}}, 0},
		{"a channel", operate.Filter{Channels: []string{"carrier"}}, 6},
		{"another channel", operate.Filter{Channels: []string{"sms"}}, 0},
		{"dead", operate.Filter{States: dead}, 5},
		{"held", operate.Filter{States: []dispatch.State{dispatch.Held}}, 1},
		{"delivered or held", operate.Filter{States: []dispatch.State{dispatch.Delivered, dispatch.Held}}, 1},
		{"words of the error", operate.Filter{Error: "mailbox 100%"}, 3},
		{"words, among the dead", operate.Filter{Error: "FULL", States: dead}, 3},
		{"since", operate.Filter{Since: ago(1)}, 3},
		{"until", operate.Filter{Until: ago(1), States: dead}, 3},
		{"both", operate.Filter{Since: ago(4), Until: ago(2)}, 3},
		{"an id", operate.Filter{IDs: []uuid.UUID{one}}, 1},
		{"an id that is not dead", operate.Filter{IDs: []uuid.UUID{one}, States: dead}, 0},
		{"at most", operate.Filter{Limit: 2}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := w.o.List(t.Context(), tt.f)
			if err != nil || len(got) != tt.want {
				t.Errorf("%d deliveries, want %d: %v", len(got), tt.want, err)
			}
		})
	}
	list, err := w.o.List(t.Context(), operate.Filter{})
	if err != nil || list[0].Type != "visit.due" || list[5].Type != "quote.sent" {
		t.Errorf("not the newest first: %v %v", list, err)
	}
}
