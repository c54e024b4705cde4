package operate_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

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
