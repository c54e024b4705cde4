package operate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

func (w *world) pause(action operate.Action, types, channels []string) operate.PauseResult {
	w.t.Helper()
	res, err := w.o.Pause(w.t.Context(), operate.PauseRequest{Action: action, Types: types, Channels: channels, By: kim})
	if err != nil {
		w.t.Fatalf("%s: %v", action, err)
	}
	return res
}

// TestPause: what is paused is not sent, no attempt of it is counted, its event
// stays open, and it leaves when it is resumed. Others go on.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		types, channels []string
		why             string
	}{
		{"a type", []string{"quote.sent"}, nil, "paused: type quote.sent"},
		{"types that begin so", []string{"quote.*"}, nil, "paused: type quote.*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, policy := range []dispatch.Policy{{}, {Announce: true}} {
				w := newWorld(t, nil)
				w.pause(operate.Pause, tt.types, tt.channels)
				w.start(policy)
				w.insert(20, "quote.sent")
				w.insert(5, "visit.due")
				w.await(20, fmt.Sprintf(`state = 'ready' and attempts = 0 and last_error = '%s' and due_at > now() + interval '2 minutes'`, tt.why))
				w.await(5, `state = 'delivered'`)
				if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox_events where type = 'quote.sent' and processed_at is null`); n != 20 {
					t.Errorf("%d events of 20 are open", n)
				}
				if res := w.pause(operate.Resume, tt.types, tt.channels); res.Deliveries != 20 || len(res.Done) != 1 {
					t.Errorf("%+v", res)
				}
				w.await(25, `state = 'delivered' and attempts = 1`)
				for id, n := range w.p.taken() {
					if n != 1 {
						t.Errorf("%s sent %d times", id, n)
					}
				}
			}
		})
	}
}

// TestPauseOfAChannel while a listener runs: it holds within a sweep, for what is
// new as for what is retried, and two listeners agree.
func TestPauseOfAChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 10)
	w.start(dispatch.Policy{})
	w.start(dispatch.Policy{})
	w.insert(10, "visit.due")
	w.await(10, `state = 'delivered'`)
	w.pause(operate.Pause, nil, []string{"carrier"})
	// Two sweeps of 200 ms each, of both: no later than that everybody knows.
	known := func() bool {
		n := w.count(`event_type = 'quote.lost'`)
		w.insert(1, "quote.lost")
		pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return w.count(`event_type = 'quote.lost'`) > n, "not in the ledger" })
		return w.count(`event_type = 'quote.lost' and state = 'ready'`) >= 8
	}
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return known(), "not heard of the pause" })
	before := len(w.p.taken())
	pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state = 'retry'`)
	w.await(10, `event_type = 'quote.sent' and state = 'ready' and attempts = 1 and last_error = 'paused: channel carrier'`)
	if n := len(w.p.taken()); n != before {
		t.Errorf("%d were sent while the channel was paused", n-before)
	}
	w.pause(operate.Resume, nil, []string{"carrier"})
	w.await(0, `finished_at is null`)
	w.await(10, `event_type = 'quote.sent' and state = 'delivered' and attempts = 2`)
}

// TestResumeLeavesLeases: what a listener works on is not made due by the end of a
// pause.
func TestResumeLeavesLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.pause(operate.Pause, nil, []string{"carrier"})
	w.insert(2, "quote.sent")
	w.once()
	if n := w.count(`state = 'ready' and last_error = 'paused: channel carrier'`); n != 2 {
		t.Fatalf("%d are paused", n)
	}
	pgtest.Exec(t, w.db, `update outbox.deliveries set claim = gen_random_uuid() where content ->> 'n' = '1'`) // as a claim does
	w.pause(operate.Resume, nil, []string{"carrier"})
	if n := w.count(`due_at <= now()`); n != 1 {
		t.Errorf("%d are due", n)
	}
}

func TestPauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dry, err := w.o.Pause(t.Context(), operate.PauseRequest{Action: operate.Pause, Types: []string{"quote.*"}, DryRun: true})
	if err != nil || len(dry.Done) != 1 {
		t.Errorf("%+v, %v", dry, err)
	}
	if list, err := w.o.Pauses(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("a dry run paused %v, %v", list, err)
	}
	if res := w.pause(operate.Pause, []string{"quote.*", "quote.*"}, []string{"sms"}); len(res.Done) != 2 || len(res.Unchanged) != 0 {
		t.Errorf("%+v", res)
	}
	if res := w.pause(operate.Pause, []string{"quote.*"}, []string{"email"}); len(res.Done) != 1 || len(res.Unchanged) != 1 || res.Unchanged[0].Pattern != "quote.*" {
		t.Errorf("%+v", res)
	}
	list, err := w.o.Pauses(t.Context())
	if err != nil || len(list) != 3 || list[0].Who != "kim" || list[0].Reason != "fixed" || list[0].Since == nil {
		t.Errorf("%+v, %v", list, err)
	}
	dry, err = w.o.Pause(t.Context(), operate.PauseRequest{Action: operate.Resume, Channels: []string{"sms", "http"}, DryRun: true})
	if err != nil || len(dry.Done) != 1 || len(dry.Unchanged) != 1 {
		t.Errorf("%+v, %v", dry, err)
	}
	if res := w.pause(operate.Resume, []string{"quote.*"}, []string{"sms", "email", "http"}); len(res.Done) != 3 || len(res.Unchanged) != 1 {
		t.Errorf("%+v", res)
	}
	if res := w.pause(operate.Resume, nil, []string{"http"}); len(res.Done) != 0 {
		t.Errorf("%+v", res)
	}
	if got := pgtest.QueryVals[string](t, w.db, `select action || ' ' || filter || ' ' || count from outbox.audit order by id`); strings.Join(got, "\n") != `pause {"types":["quote.*"],"channels":["sms"]} 2
pause {"channels":["email"]} 1
resume {"types":["quote.*"],"channels":["sms","email"]} 3` {
		t.Errorf("audit: %s", strings.Join(got, "\n"))
	}
	for _, r := range []operate.PauseRequest{
		{Action: operate.Pause, By: kim},
		{Action: operate.Hold, Types: []string{"a"}, By: kim},
		{Action: operate.Pause, Types: []string{"*"}, By: kim},
		{Action: operate.Pause, Channels: []string{""}, By: kim},
		{Action: operate.Pause, Types: []string{"a"}},
	} {
		if _, err := w.o.Pause(t.Context(), r); !errors.Is(err, operate.ErrRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
