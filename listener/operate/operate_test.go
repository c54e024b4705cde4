package operate_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

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
