//go:build unix

package faultrig

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestCheck: what is as it should be has no problem, and each lie is found by
// the oracle that is there for it.
func TestCheck(t *testing.T) {
	ev, sms, email, webhook, gone := honest()
	if r := Check(ev); len(r.Problems) > 0 || r.Committed != 3 || r.Accepted != 4 || r.Again["email"] != 1 || r.Takeovers != 1 {
		t.Fatalf("the truth: %+v", r)
	}
	delivery := func(ev *Evidence, event uuid.UUID) *DeliveryRow {
		return &ev.Deliveries[slices.IndexFunc(ev.Deliveries, func(d DeliveryRow) bool { return d.Event == event })]
	}
	line := func(ev *Evidence, event uuid.UUID) *Line {
		return &ev.Provided[slices.IndexFunc(ev.Provided, func(l Line) bool { return l.Event == event.String() })]
	}
	unsent := func(ev *Evidence, event uuid.UUID) {
		ev.Provided = slices.DeleteFunc(ev.Provided, func(l Line) bool { return l.Event == event.String() })
	}
	for _, tt := range []struct {
		name   string
		lie    func(ev *Evidence)
		oracle string // "" where it is none
		text   string
	}{
		{"an event is gone", func(ev *Evidence) { ev.Events = ev.Events[1:] }, "O1", "not in the database"},
		{"a delivery is gone", func(ev *Evidence) { ev.Deliveries = ev.Deliveries[1:] }, "O1", "0 deliveries"},
		{"a delivery is dead", func(ev *Evidence) { delivery(ev, webhook).State = "dead" }, "O1", "is dead"},
		{"it is on record and was not sent", func(ev *Evidence) { unsent(ev, webhook) }, "O5", "no provider accepted"},
		{"rolled back, and sent", func(ev *Evidence) { line(ev, sms).Event = gone.String() }, "O2", "rolled back"},
		{"sent, and nobody made it", func(ev *Evidence) { line(ev, sms).Event = uuid.NewString() }, "O2", "no producer"},
		{"sent before it was committed", func(ev *Evidence) { line(ev, sms).At = ev.Produced[0].Sent.Add(-time.Millisecond) }, "O2", "before its commit"},
		{"the answer to its commit was lost", func(ev *Evidence) { ev.Produced[0].Fate = Unclear }, "", ""},
		{"the answer was lost, and it was not committed", func(ev *Evidence) {
			ev.Produced[0].Fate, ev.Events = Unclear, slices.DeleteFunc(ev.Events, func(e EventRow) bool { return e.ID == sms })
		}, "O2", "answer lost"},
		{"sent twice without a fault", func(ev *Evidence) { ev.Faults = nil }, "O3", "no fault fell"},
		{"sent twice since the database was far away", func(ev *Evidence) { ev.Faults[0].Kind = SlowDatabase }, "O3", "no fault fell"},
		{"sent twice since a listener was told to end", func(ev *Evidence) { ev.Faults[0].Kind = Terminate }, "O3", "no fault fell"},
		{"sent twice since it was killed before that arrived", func(ev *Evidence) { ev.Faults[0].From = line(ev, email).At.Add(-5 * time.Millisecond) }, "", ""},
		{"sent twice, and killed after another had it", func(ev *Evidence) {
			ev.Faults[0].From, ev.Faults[0].To = line(ev, email).At.Add(3300*time.Millisecond), line(ev, email).At.Add(3400*time.Millisecond)
		}, "O3", "no fault fell"},
		{"sent twice, and another process was killed there", func(ev *Evidence) { ev.Faults[0].What = "d0.2" }, "O3", "no fault fell"},
		{"sent twice, and somebody else was killed", func(ev *Evidence) { ev.Faults[0].What, ev.Faults[0].Daemon = "d2.1", 2 }, "O3", "no fault fell"},
		{"sent twice, and the server was restarted", func(ev *Evidence) { everyone(ev, RestartFast) }, "", ""},
		{"sent twice, and an answer was cut", func(ev *Evidence) { everyone(ev, LimitProvider) }, "O3", "no fault fell"}, // whoever heard no answer would have said so
		{"said to be sent again without a fault", func(ev *Evidence) { unheard(ev, email); ev.Faults = nil }, "O3", "no fault fell"},
		{"said to be sent again, and the server was restarted beside it", func(ev *Evidence) { unheard(ev, email); everyone(ev, RestartFast) }, "O3", "no fault fell"},
		{"said to be sent again, and killed beside it", func(ev *Evidence) { unheard(ev, email) }, "O3", "no fault fell"},
		{"said to be sent again, when the time to finish was over", func(ev *Evidence) { unheard(ev, email); toldToEnd(ev, grace) }, "", ""},
		{"said to be sent again, while there was time to finish", func(ev *Evidence) { unheard(ev, email); toldToEnd(ev, grace-time.Second) }, "O3", "no fault fell"},
		{"said to be sent again, when the time to finish of somebody else was over", func(ev *Evidence) {
			unheard(ev, email)
			toldToEnd(ev, grace)
			ev.Faults[0].What, ev.Faults[0].Daemon = "d2.1", 2
		}, "O3", "no fault fell"},
		{"said to be sent again, and the answer was cut", func(ev *Evidence) { unheard(ev, email); everyone(ev, LimitProvider) }, "", ""},
		{"said to be sent again, and the answer of another channel was cut", func(ev *Evidence) {
			unheard(ev, email)
			everyone(ev, LimitProvider)
			ev.Faults[0].Channel = "webhook"
		}, "O3", "no fault fell"},
		{"said to be sent again, and the answer was cut later", func(ev *Evidence) {
			unheard(ev, email)
			everyone(ev, LimitProvider)
			ev.Faults[0].From = ev.Faults[0].From.Add(100 * time.Millisecond)
			ev.Faults[0].To = ev.Faults[0].To.Add(100 * time.Millisecond)
		}, "O3", "no fault fell"},
		{"said to be sent again, and its provider hung up", func(ev *Evidence) {
			unheard(ev, email)
			ev.Faults = nil
			mishap := *line(ev, email)
			mishap.At, mishap.Fault = mishap.At.Add(-time.Millisecond), string(cutAfter)
			ev.Provided = append(ev.Provided, mishap)
		}, "", ""},
		{"said to be sent again, since its provider hung up between its event's parking and its own row", func(ev *Evidence) {
			unheard(ev, email)
			mishap := *line(ev, email)
			mishap.At, mishap.Fault = mishap.At.Add(-time.Millisecond), string(cutAfter)
			ev.Provided = append(ev.Provided, mishap)
			changes(ev, email)[1].At = mishap.At.Add(-time.Millisecond)
		}, "", ""},
		{"sent again by who stood still when another took it", func(ev *Evidence) { late(ev, email, -4*time.Second, 0) }, "", ""},
		{"sent by who stood still when another had taken it", func(ev *Evidence) { late(ev, email, -4*time.Second, -500*time.Millisecond) }, "", ""},
		{"sent again by who stood still when nobody took it", func(ev *Evidence) { late(ev, email, -900*time.Millisecond, 0) }, "O3", "no fault fell"},
		{"sent again when it was on record", func(ev *Evidence) {
			again := *line(ev, webhook)
			again.At = again.At.Add(time.Second)
			ev.Provided = append(ev.Provided, again)
			ev.Faults[0] = Fault{Kind: Kill, What: "d1.1", Daemon: 1, From: again.At.Add(-900 * time.Millisecond), To: again.At}
		}, "O3", "no fault fell"},
		{"sent again since a claim was lost with the server", func(ev *Evidence) {
			ev.Changes = slices.DeleteFunc(ev.Changes, func(c Change) bool { return c.App == "d0.1" })
			changes(ev, email)[0].OldClaim = nil
			everyone(ev, RestartCrash)
			ev.Faults[0].From, ev.Faults[0].To = line(ev, email).At.Add(-300*time.Millisecond), line(ev, email).At.Add(-200*time.Millisecond)
		}, "", ""},
		{"an order without its row", func(ev *Evidence) { ordered(ev, 0) }, "O3", "committed 0 times"},
		{"an order with two rows", func(ev *Evidence) { ordered(ev, 2) }, "O3", "committed 2 times"},
		{"a row of nothing", func(ev *Evidence) { ev.Booked = map[uuid.UUID]int{gone: 1} }, "O2", "not committed"},
		{"another key", func(ev *Evidence) { line(ev, email).ID = uuid.NewString() }, "O3", "under the key"},
		{"other bytes", func(ev *Evidence) { line(ev, email).Sum = "other" }, "O3", "other bytes"},
		{"an SMS twice", func(ev *Evidence) { ev.Provided = append(ev.Provided, *line(ev, sms)) }, "O4", "accepted 2 times"},
		{"an SMS is another at Twilio", func(ev *Evidence) { delivery(ev, sms).ProviderID = "SM2" }, "O5", `is "SM2" by the record`},
		{"an e-mail is held", func(ev *Evidence) {
			delivery(ev, email).State = "held"
			ev.Events[1].Processed = false
		}, "O1", "it may not be"},
		{"written by another than its holder", func(ev *Evidence) { changes(ev, webhook)[1].App = "d0.1" }, "O6", "d0.1 wrote under the claim"},
		{"a delivery under the claim of another", func(ev *Evidence) { changes(ev, webhook)[2].App = "d0.1" }, "O6", "wrote a delivery under the claim"},
		{"taken before the lease ran out", func(ev *Evidence) { changes(ev, email)[1].OldUntil = new(changes(ev, email)[1].At.Add(1)) }, "O6", "before its lease ran out"},
		{"a step in order", func(ev *Evidence) { steps(ev, 0, 1) }, "", ""},
		{"a step before the one ahead of it", func(ev *Evidence) { steps(ev, 1, 0) }, "O12", "ahead of it in line"},
		{"a step before one that was not committed yet", func(ev *Evidence) {
			steps(ev, 1, 0)
			ev.Produced[len(ev.Produced)-1].Sent = ev.Produced[len(ev.Produced)-2].Sent.Add(time.Millisecond)
		}, "", ""},
		{"over, and open again", func(ev *Evidence) {
			c := *changes(ev, webhook)[2]
			c.OldClaim, c.OldState, c.State, c.OldAttempts, c.N = c.Claim, new("delivered"), "retry", c.Tries, 99
			ev.Changes = append(ev.Changes, c)
		}, "O6", "was delivered and became retry"},
		{"an attempt is not counted", func(ev *Evidence) { changes(ev, webhook)[2].Tries = new(2) }, "O6", "from 0 to 2"},
		{"an attempt too many on record", func(ev *Evidence) {
			ev.Attempts = append(ev.Attempts, AttemptRow{Delivery: delivery(ev, webhook).ID, Attempt: 2})
		}, "O6", "attempt 2 is on record, of 1"},
		{"open for ever", func(ev *Evidence) { ev.Left = 1 }, "O7", "1 events are open"},
		{"late", func(ev *Evidence) { ev.QuietLimit = ev.Quiet - 1 }, "O7", "the limit is"},
		{"a retention deletes what waits", func(ev *Evidence) { ev.OldHeld = 2 }, "O1", "2 are left"},
		{"a host's own clock", func(ev *Evidence) { ev.Strange = []string{"attempts.at of x is 01:00:00 from now"} }, "O5", "the clock of a host"},
		{"what a listener kept when it was told to end is written by the next", func(ev *Evidence) {
			ch := changes(ev, webhook)
			ev.Faults = append(ev.Faults, Fault{Kind: Terminate, What: ch[0].App, Daemon: 1, From: ch[0].At, To: ch[0].At})
			ch[1].App, ch[2].App = "d0.1", "d0.1"
		}, "", ""},
		{"made due by another while it waits", func(ev *Evidence) { hasten(ev, webhook, uuid.NewSHA1(webhook, nil), "retry") }, "", ""},
		{"made due by another while somebody has it", func(ev *Evidence) { hasten(ev, webhook, uuid.New(), "retry") }, "O6", "d0.9 wrote under the claim"},
		{"made due by another, and changed", func(ev *Evidence) { hasten(ev, webhook, uuid.NewSHA1(webhook, nil), "ready") }, "O6", "d0.9 wrote under the claim"},
		{"written by another, since its holder was killed", func(ev *Evidence) {
			ch := changes(ev, webhook)
			ev.Faults = append(ev.Faults, Fault{Kind: Kill, What: ch[0].App, Daemon: 1, From: ch[0].At, To: ch[0].At})
			ch[1].App = "d0.1"
		}, "O6", "d0.1 wrote under the claim"},
		{"killed, and its lease was taken over late", func(ev *Evidence) {
			ev.QuietLimit, ev.Plan.Batch = time.Minute, 10
			for _, ch := range changes(ev, email)[1:] {
				ch.At = ch.At.Add(5 * time.Second)
			}
			ev.Provided = append(ev.Provided[:2], ev.Provided[3:]...) // what is sent after it
		}, "O7", "nobody took it over until 6.99s after"},
		{"killed, and its lease was taken over late since nobody was there", func(ev *Evidence) {
			ev.QuietLimit, ev.Plan.Batch = time.Minute, 10
			for _, ch := range changes(ev, email)[1:] {
				ch.At = ch.At.Add(5 * time.Second)
			}
			ev.Provided = append(ev.Provided[:2], ev.Provided[3:]...)
			ev.Faults = append(ev.Faults, Fault{Kind: RestartFast, Daemon: Everyone, From: ev.Faults[0].To.Add(time.Second), To: ev.Faults[0].To.Add(6 * time.Second)})
		}, "", ""},
		{"killed, and its lease was taken over within five seconds of a restart", func(ev *Evidence) { restarted(ev, email, 4900*time.Millisecond) }, "", ""},
		{"killed, and its lease was taken over later than that", func(ev *Evidence) { restarted(ev, email, 5300*time.Millisecond) }, "O7", "nobody took it over until 3.3s after"},
		{"killed, and its lease was never taken over", func(ev *Evidence) {
			last := *changes(ev, webhook)[2]
			ev.Changes = slices.DeleteFunc(ev.Changes, func(c Change) bool { return c.Event == email && c.App != "d0.1" })
			last.At = last.At.Add(20 * time.Second)
			last.OldClaim, last.OldState, last.OldAttempts = last.Claim, &last.State, last.Tries
			ev.Changes = append(ev.Changes, last)
		}, "O7", "nobody took it over"},
		{"left leased", func(ev *Evidence) { ev.Leased = 2 }, "O8", "2 rows are leased"},
		{"idle in a transaction", func(ev *Evidence) { ev.Idle = []string{"d0.1: select 1"} }, "O8", "idle in a transaction"},
		{"notifications that nobody reads", func(ev *Evidence) { ev.Notified = 0.1 }, "O8", "queue of notifications"},
		{"files that are never closed", func(ev *Evidence) { ev.Files = mostFiles + 1 }, "O8", "101 files"},
		{"a secret in the log", func(ev *Evidence) { ev.Leaks = []string{"TWILIO_AUTH_TOKEN in the log of d0.1: x"} }, "O9", "TWILIO_AUTH_TOKEN"},
		{"lines a second apart", func(ev *Evidence) {
			says(ev, time.Second, "claiming failed; trying again", "claiming failed; trying again")
		}, "", ""},
		{"a line too soon", func(ev *Evidence) {
			says(ev, 900*time.Millisecond, "claiming failed; trying again", "claiming failed; trying again")
		}, "O10", `"claiming failed; trying again" of "" again 900ms`},
		{"a line that was due before its process stood still", func(ev *Evidence) { stoodStill(ev, 100*time.Millisecond) }, "", ""},
		{"two lines too soon, long after its process stood still", func(ev *Evidence) { stoodStill(ev, 400*time.Millisecond) }, "O10", "again 900ms after"},
		{"two lines at once", func(ev *Evidence) { says(ev, time.Millisecond, "claiming failed; trying again", "heartbeat not sent") }, "", ""},
		{"called when a pause was over", func(ev *Evidence) { paused(ev, webhook, 3*time.Second, true) }, "", ""},
		{"called while others have not heard of a pause", func(ev *Evidence) { paused(ev, webhook, 900*time.Millisecond, true) }, "", ""},
		{"called within a pause", func(ev *Evidence) { paused(ev, webhook, 2*time.Second, true) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause that nobody heard of", func(ev *Evidence) { paused(ev, webhook, 2*time.Second, false) }, "", ""},
		{"called within a pause, by one that stood still", func(ev *Evidence) { deaf(ev, webhook, Stop, 1500*time.Millisecond, 2900*time.Millisecond) }, "", ""},
		{"called within a pause, by one that the database was away from", func(ev *Evidence) { deaf(ev, webhook, SwallowDatabase, 1500*time.Millisecond, 2900*time.Millisecond) }, "", ""},
		{"called within a pause, when the server was back", func(ev *Evidence) { deaf(ev, webhook, RestartFast, 1500*time.Millisecond, 2900*time.Millisecond) }, "", ""},
		{"called within a pause, by one that goes on for longer", func(ev *Evidence) { deaf(ev, webhook, Stop, 1500*time.Millisecond, 1600*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause, by one that went on before it", func(ev *Evidence) { deaf(ev, webhook, Stop, 500*time.Millisecond, 900*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause, by one that stood still before it had it", func(ev *Evidence) {
			deaf(ev, webhook, Stop, 1500*time.Millisecond, 2900*time.Millisecond)
			changes(ev, webhook)[0].At = ev.Faults[0].From.Add(2950 * time.Millisecond)
		}, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause, while another stood still", func(ev *Evidence) {
			deaf(ev, webhook, Stop, 1500*time.Millisecond, 2900*time.Millisecond)
			ev.Faults[1].What = "d1.2"
		}, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause that is not on record, and its outcome is", func(ev *Evidence) { died(ev, webhook, 50*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause, when who knew had time to tell", func(ev *Evidence) { died(ev, webhook, 700*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"called within a pause, and the outcome was on record late", func(ev *Evidence) { pausedLate(ev, webhook, 1200*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2.7s after that"},
		{"called when others have hardly heard of a pause, of which the outcome was on record late", func(ev *Evidence) { pausedLate(ev, webhook, 1600*time.Millisecond) }, "", ""},
		{"called within a pause that may not have been to be put on record", func(ev *Evidence) { pausedLate(ev, webhook, 2100*time.Millisecond) }, "", ""},
		{"called within a pause, of which another attempt may be on record", func(ev *Evidence) {
			pausedLate(ev, webhook, 1200*time.Millisecond)
			again := ev.Provided[len(ev.Provided)-1]
			again.At, again.Wait = again.At.Add(time.Second), 0
			ev.Provided = append(ev.Provided, again)
		}, "", ""},
		{"called within a pause, by one whose connections were cut", func(ev *Evidence) { deaf(ev, webhook, CutDatabase, 1500*time.Millisecond, 2900*time.Millisecond) }, "O10", "webhook asked for 3 s, and 2s after that"},
		{"inserts", func(ev *Evidence) { inserts(ev, 10, Insert{Took: time.Millisecond}) }, "", ""},
		{"an insert that failed", func(ev *Evidence) { inserts(ev, 1, Insert{Err: "ERROR: deadlock"}) }, "O11", "an insert failed: ERROR: deadlock"},
		{"an insert that failed when the server went down", func(ev *Evidence) {
			inserts(ev, 1, Insert{At: ev.Faults[0].From, Err: "EOF"})
			everyone(ev, RestartFast)
		}, "", ""},
		{"inserts that waited", func(ev *Evidence) { inserts(ev, 100, Insert{Took: 3 * time.Second}) }, "O11", "took 3s; the limit is 2s"},
		{"it does not end", func(ev *Evidence) { ev.Exits = []string{"d0.1 ended with code -1 after SIGTERM"} }, "O8", "code -1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev, _, _, _, _ := honest()
			tt.lie(ev)
			finds(t, ev, tt.oracle, tt.text)
		})
	}
}

// finds fails the test where the check of ev does not find a problem of an oracle with a
// text; or finds any, where the oracle is "".
func finds(t *testing.T, ev *Evidence, oracle, text string) {
	t.Helper()
	r := Check(ev)
	found := slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Oracle == oracle && strings.Contains(p.Text, text) })
	if oracle == "" {
		found = len(r.Problems) == 0
	}
	if !found {
		t.Errorf("want %s: %s; problems: %+v", oracle, text, r.Problems)
	}
}
