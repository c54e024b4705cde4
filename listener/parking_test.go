package listener

import (
	"context"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// parkable is a listener that holds one event with one delivery that must never be sent
// twice, and has worked on it for long enough to park it. Its recorder writes when it is
// told to.
func parkable(t *testing.T, send func(*Listener, *event) error) (l *Listener, e *event, db *pgtest.DB) {
	t.Helper()
	db = pgtest.New(t)
	d := dispatch.New()
	d.Register("carrier", senderFunc(func(*dispatch.Delivery) error { return send(l, e) }), dispatch.Policy{OnUnknown: dispatch.NeverTwice})
	d.Route("greeting", func(context.Context, dispatch.Event) []dispatch.Message {
		return []dispatch.Message{{Route: "r", Step: "s", Channel: "carrier", Content: []byte(`{}`)}}
	})
	l, err := New(Config{Pool: db.Pool, Dispatcher: d, Log: quietLog(), Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	l.recorder = newRecorder(t.Context(), l.store, l.log, l.recorded)
	l.announcer = newAnnouncer(t.Context(), l.store, l.log)
	go l.announcer.run(t.Context())
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
	claims, _, err := l.store.claimEvents(t.Context(), 0, top, 10, 1)
	if err != nil || len(claims) != 1 {
		t.Fatalf("%d claims, %v", len(claims), err)
	}
	e = claims[0].events[0]
	if e.jobs, err = l.plan(t.Context(), e); err != nil || len(e.jobs) != 1 {
		t.Fatalf("%d deliveries, %v", len(e.jobs), err)
	}
	e.left, e.begun = 1, time.Now().Add(-2*slow)
	return l, e, db
}

// flush has everything recorded that waits for it.
func (r *recorder) flush() {
	for {
		entries := r.others.take(1)
		if len(entries) == 0 {
			return
		}
		r.write(entries)
	}
}

// TestNotAnnouncedWhileItIsParked: the record of the parking has a delivery as it
// stood when that was asked for. One that is announced meanwhile would stand as ready
// again while it is being sent, and after a crash it would be sent a second time.
func TestNotAnnouncedWhileItIsParked(t *testing.T) {
	t.Parallel()
	var atSend []string
	var db *pgtest.DB
	l, e, database := parkable(t, func(l *Listener, _ *event) error {
		l.recorder.flush() // the parking commits after the announcement
		atSend = pgtest.QueryVals[string](t, db, `select state from outbox.deliveries`)
		return nil
	})
	db = database
	l.park(e)
	l.attempt(t.Context(), e.jobs[0])
	for _, state := range atSend {
		if state != "sending" {
			t.Errorf("it is sent, and the ledger has it as %s", state)
		}
	}
	l.recorder.flush()
	if got := pgtest.QueryVal[string](t, db, `select state || ' ' || (due_at <= clock_timestamp()) from outbox.deliveries`); got != "ready true" && got != "delivered false" {
		t.Errorf("it is %s, want it ready and due", got)
	}
	_, jobs, err := l.store.claimDue(t.Context(), 10)
	if err != nil || len(jobs) != 1 || jobs[0].attempts != 0 {
		t.Errorf("%d due, %v; want one that was not attempted", len(jobs), err)
	}
}

// TestParkedBeforeItWasAnnounced: a delivery whose announcement waits is parked as one
// that may be sent. The announcement that comes after that says what it is alike, or it
// could not be looked for, and would be held although its provider has it.
func TestParkedBeforeItWasAnnounced(t *testing.T) {
	t.Parallel()
	l, e, db := parkable(t, nil)
	j, alike := e.jobs[0], int32(7)
	j.likeness = &alike
	if !j.announces(true) {
		t.Fatal("it is not to be announced")
	}
	l.park(e)
	l.recorder.flush()
	for range 2 { // the second time as if the answer had been lost
		if got := l.announcer.announce(t.Context(), j); got != committed {
			t.Fatalf("announced: %d, want %d", got, committed)
		}
		if got := pgtest.QueryVal[string](t, db, `select concat_ws(' ', state, attempts, likeness) from outbox.deliveries`); got != "sending 1 7" {
			t.Errorf("the ledger has %q", got)
		}
	}
}

// TestAnnouncedOnceParked: what waited so long for its turn that its event was parked is
// announced like any other, and sent: its row is there, and is nobody else's.
func TestAnnouncedOnceParked(t *testing.T) {
	t.Parallel()
	sent := 0
	l, e, db := parkable(t, func(*Listener, *event) error { sent++; return nil })
	l.park(e)
	l.recorder.flush()
	l.attempt(t.Context(), e.jobs[0])
	l.recorder.flush()
	if got := pgtest.QueryVal[string](t, db, `select state || ' ' || attempts from outbox.deliveries`); got != "delivered 1" || sent != 1 {
		t.Errorf("it is %s, and was sent %d times", got, sent)
	}
}

// TestTakenOverBeforeItWasParked: deliveries of an event that was taken over before
// its parking was on record are recorded by nobody but the one who has it. What he finds
// dead he would plan anew, and send.
func TestTakenOverBeforeItWasParked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		early bool // it has its outcome before the parking is found to be fenced off
	}{{"an outcome from before", true}, {"an outcome from after", false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var db *pgtest.DB
			taken := func(l *Listener, e *event) {
				l.park(e)
				pgtest.Exec(t, db, `update outbox_events set lease_until = now() - interval '1 second'`)
				if claims, _, err := l.store.claimEvents(t.Context(), 0, top, 10, 1); err != nil || len(claims) != 1 {
					t.Errorf("%d claims, %v", len(claims), err)
				}
				if !tt.early {
					l.recorder.flush()
				}
			}
			l, e, database := parkable(t, func(l *Listener, e *event) error {
				taken(l, e)
				return &dispatch.Error{Kind: dispatch.Unknown, Err: context.DeadlineExceeded}
			})
			db = database
			l.attempt(t.Context(), e.jobs[0])
			l.recorder.flush()
			if got := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries`); got != "sending" {
				t.Errorf("recorded as %s by one that does not have it", got)
			}
			if !e.over.Load() || l.fenced.Load() == 0 {
				t.Errorf("over %t, %d fenced off", e.over.Load(), l.fenced.Load())
			}
		})
	}
}

// TestParkingKeepsWhatWasFound: what a look finds while its event is being parked stays
// on record, so that nobody else takes the same message for his.
func TestParkingKeepsWhatWasFound(t *testing.T) {
	t.Parallel()
	l, e, db := parkable(t, func(*Listener, *event) error { return nil })
	j := e.jobs[0]
	if kept, err := l.store.announce(t.Context(), []announcement{{job: j}}); err != nil || !kept[j.ID] {
		t.Fatalf("announced: %t, %v", kept[j.ID], err)
	}
	j.announced = true
	l.park(e)
	if kept, err := l.store.noteLook(t.Context(), j, 0, dispatch.VerdictFound, dispatch.Receipt{ProviderID: "SM9"}, ""); err != nil || !kept {
		t.Fatalf("noted: %t, %v", kept, err)
	}
	l.recorder.flush()
	if got := pgtest.QueryVal[string](t, db, `select state || ' ' || coalesce(provider_id, 'nothing') from outbox.deliveries`); got != "sending SM9" {
		t.Errorf("it is %s, want sending SM9", got)
	}
}
