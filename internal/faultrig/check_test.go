//go:build unix

package faultrig

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// honest is what the ledgers say of three events that went well: an SMS, an
// e-mail that was sent again after a fault, and a webhook; and of one that was
// rolled back.
func honest() (ev *Evidence, sms, email, webhook, gone uuid.UUID) {
	start := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	ev = &Evidence{Plan: Plan{Seed: 7, Daemons: 2, Lease: time.Second}}
	ids := make([]uuid.UUID, 4)
	for i := range ids {
		ids[i] = uuid.MustParse("00000000-0000-4000-8000-00000000000" + string(rune('1'+i)))
	}
	sms, email, webhook, gone = ids[0], ids[1], ids[2], ids[3]
	claims := []uuid.UUID{uuid.New(), uuid.New()}
	n := int64(0)
	change := func(ms int, app string, event uuid.UUID, c Change) {
		n++
		c.N, c.At, c.App, c.Event = n, at(ms), app, event
		ev.Changes = append(ev.Changes, c)
	}
	// wrote is the record of a delivery, under a claim that app makes first.
	wrote := func(ms int, app, channel string, claim *uuid.UUID, event uuid.UUID, old *uuid.UUID, oldUntil *time.Time) {
		until := at(ms + 1000)
		change(ms, app, event, Change{OldClaim: old, Claim: claim, OldUntil: oldUntil, Until: &until, OldState: new("open"), State: "open"})
		change(ms+10, app, event, Change{OldClaim: claim, Claim: claim, OldUntil: &until, OldState: new("open"), State: "processed"})
		d := uuid.NewSHA1(event, nil)
		change(ms+10, app, event, Change{Delivery: &d, Claim: claim, State: "delivered", Tries: new(1)})
		ev.Deliveries = append(ev.Deliveries, DeliveryRow{ID: d, Event: event, Channel: channel, State: "delivered", Attempts: 1, ProviderID: "SM1"})
		ev.Events = append(ev.Events, EventRow{ID: event, Processed: true})
	}
	for i, channel := range []string{"sms", "email", "webhook"} {
		ev.Produced = append(ev.Produced, Produced{Event: Event{ids[i], channel + ".send"}, Fate: Committed, Sent: at(0), Done: at(5)})
		key := uuid.NewSHA1(ids[i], nil).String()
		line := Line{At: at(5000), Channel: channel, Event: ids[i].String(), ID: key, Sum: "s"}
		switch channel {
		case "sms":
			line.ID = "SM1"
		case "email":
			// d0 sent it, and died before it was on record.
			first := line
			first.At = at(2000)
			ev.Provided = append(ev.Provided, first)
			until := at(3000)
			change(1990, "d0.1", ids[i], Change{Claim: &claims[1], Until: &until, OldState: new("open"), State: "open"})
			wrote(4990, "d1.1", channel, &claims[0], ids[i], &claims[1], &until)
		}
		if channel != "email" {
			wrote(4990, "d1.1", channel, &claims[0], ids[i], nil, nil)
		}
		ev.Provided = append(ev.Provided, line)
	}
	ev.Produced = append(ev.Produced, Produced{Event: Event{gone, "sms.send"}, Fate: RolledBack, Sent: at(0), Done: at(5)})
	ev.Faults = []Fault{{Kind: Kill, What: "d0.1", From: at(2020), To: at(2030)}}
	ev.Quiet, ev.OldHeld = time.Second, oldHeld
	return ev, sms, email, webhook, gone
}

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

// everyone has a fault of this kind come upon all, or all that send e-mails, where the one of honest is.
func everyone(ev *Evidence, k Kind) {
	f := &ev.Faults[0]
	f.Kind, f.What, f.Daemon = k, "", Everyone
	if k == LimitProvider {
		f.Channel = "email"
	}
}

// changes are those of an event.
func changes(ev *Evidence, event uuid.UUID) (list []*Change) {
	for i := range ev.Changes {
		if ev.Changes[i].Event == event {
			list = append(list, &ev.Changes[i])
		}
	}
	return list
}

// says adds lines of one process, so far apart.
func says(ev *Evidence, gap time.Duration, lines ...string) {
	for i, msg := range lines {
		ev.Said = append(ev.Said, Said{Process: "d0.1", At: ev.Faults[0].From.Add(time.Duration(i) * gap), Msg: msg})
	}
}

// paused adds that the provider of event asked for three seconds, so long before it took it, and
// whether somebody put that on record.
func paused(ev *Evidence, event uuid.UUID, before time.Duration, heard bool) {
	i := slices.IndexFunc(ev.Provided, func(l Line) bool { return l.Event == event.String() })
	asked := ev.Provided[i]
	asked.At, asked.Fault, asked.Wait = asked.At.Add(-before), string(throttled), 3
	ev.Provided = append(ev.Provided, asked)
	if heard {
		ev.Attempts = append(ev.Attempts, AttemptRow{Delivery: uuid.NewSHA1(event, nil), Attempt: 1, At: asked.At.Add(time.Millisecond), Kind: "throttled"})
	}
}

// deaf adds that the provider of event asked for three seconds, two before it took it from somebody that
// had it at that time already, upon whom a fault came from one moment to another after that of honest.
func deaf(ev *Evidence, event uuid.UUID, k Kind, from, to time.Duration) {
	paused(ev, event, 2*time.Second, true)
	first := ev.Faults[0].From
	changes(ev, event)[0].At = first
	what := ""
	if k == Stop {
		what = "d1.1"
	}
	ev.Faults = append(ev.Faults, Fault{Kind: k, What: what, Daemon: 1, From: first.Add(from), To: first.Add(to)})
}

// restarted has the server restart before the lease that was left of event was over, and the event taken
// over so long after that.
func restarted(ev *Evidence, event uuid.UUID, after time.Duration) {
	ev.QuietLimit, ev.Plan.Batch = time.Minute, 10
	back := ev.Faults[0].To.Add(6 * time.Second)
	ev.Faults = append(ev.Faults, Fault{Kind: RestartFast, Daemon: Everyone, From: ev.Faults[0].To.Add(time.Second), To: back})
	ch := changes(ev, event)[1:]
	by := back.Add(after).Sub(ch[0].At)
	for _, one := range ch {
		one.At = one.At.Add(by)
	}
	ev.Provided = append(ev.Provided[:2], ev.Provided[3:]...) // what is sent after it
}

// inserts adds n of a producer.
func inserts(ev *Evidence, n int, one Insert) {
	for range n {
		ev.Inserts = append(ev.Inserts, one)
	}
}

// late has the process that had an event first stand still, in place of being killed, from one moment to
// another after what it sent arrived, which was a second after the record of another process.
func late(ev *Evidence, event uuid.UUID, from, to time.Duration) {
	var lines []*Line
	for i := range ev.Provided {
		if ev.Provided[i].Event == event.String() {
			lines = append(lines, &ev.Provided[i])
		}
	}
	at := lines[1].At.Add(time.Second)
	lines[0].At, lines[1].At = lines[1].At, at
	ev.Faults[0] = Fault{Kind: Stop, What: "d0.1", From: at.Add(from), To: at.Add(to)}
}

// unheard adds that whoever sent event first put on record that nobody knew whether it arrived.
func unheard(ev *Evidence, event uuid.UUID) {
	i := slices.IndexFunc(ev.Changes, func(c Change) bool { return c.Event == event })
	claimed := ev.Changes[i]
	d, at := uuid.NewSHA1(event, nil), claimed.At.Add(60*time.Millisecond) // the fault of honest is from 30 to 40 ms
	soon := at.Add(time.Second)
	ev.Changes = slices.Insert(ev.Changes, i+1,
		Change{At: at, App: claimed.App, Event: event, OldClaim: claimed.Claim, Claim: claimed.Claim, OldUntil: claimed.Until, OldState: new("open"), State: "parked"},
		Change{At: at, App: claimed.App, Event: event, Delivery: &d, Until: &soon, State: "uncertain", Tries: new(1)})
	for j := range ev.Changes[i+3:] {
		if c := &ev.Changes[i+3+j]; c.Event == event && c.Delivery != nil {
			c.OldState, c.OldAttempts, c.Tries = new("uncertain"), new(1), new(2)
		}
	}
}

// steps adds two steps of one line, the second committed after the first, that were
// accepted at these seconds.
func steps(ev *Evidence, seconds ...int) {
	sent := ev.Produced[0].Sent
	for i, s := range seconds {
		id, d := uuid.MustParse("00000000-0000-4000-9000-00000000000"+string(rune('0'+3*i))), uuid.New()
		ev.Produced = append(ev.Produced, Produced{Event: Event{id, stepTaken}, Fate: Committed, Sent: sent.Add(time.Duration(i) * time.Second), Done: sent.Add(time.Duration(i)*time.Second + 2*time.Millisecond)})
		ev.Events = append(ev.Events, EventRow{ID: id, Seq: int64(i), Processed: true})
		ev.Deliveries = append(ev.Deliveries, DeliveryRow{ID: d, Event: id, Channel: "webhook", State: "delivered", Attempts: 1})
		ev.Provided = append(ev.Provided, Line{At: sent.Add(time.Duration(5+s) * time.Second), Channel: "webhook", Event: id.String(), ID: d.String(), Sum: "s"})
	}
}

// hasten adds that a delivery of event was put off to retry under claim, and that
// another listener made it due, in this state.
func hasten(ev *Evidence, event, claim uuid.UUID, state string) {
	d, at := uuid.New(), ev.Changes[0].At
	soon, later := at.Add(time.Second), at.Add(time.Minute)
	ev.Changes = append([]Change{
		{At: at, App: "d1.1", Event: event, Delivery: &d, Claim: &claim, Until: &later, OldState: new("ready"), State: "retry", OldAttempts: new(0), Tries: new(1)},
		{At: at, App: "d0.9", Event: event, Delivery: &d, OldClaim: &claim, Claim: &claim, OldUntil: &later, Until: &soon, OldState: new("retry"), State: state, OldAttempts: new(1), Tries: new(1)},
	}, ev.Changes...)
}

// ordered adds an order whose sql step has inserted so many rows.
func ordered(ev *Evidence, rows int) {
	id := uuid.New()
	ev.Produced = append(ev.Produced, Produced{Event: Event{id, "order.placed"}, Fate: Committed})
	ev.Events = append(ev.Events, EventRow{ID: id, Processed: true})
	ev.Booked = map[uuid.UUID]int{id: rows}
	for _, channel := range types["order.placed"] {
		d := uuid.New()
		ev.Deliveries = append(ev.Deliveries, DeliveryRow{ID: d, Event: id, Channel: channel, State: "delivered", Attempts: 1})
		if channel != "sql" {
			ev.Provided = append(ev.Provided, Line{At: time.Now(), Channel: channel, Event: id.String(), ID: d.String()})
		}
	}
}

// TestUnclear: an SMS waits for a person, is given up or arrives twice only where
// the type of its event has that, where a fault or its provider gives a reason, and
// where the list of messages does not have it.
func TestUnclear(t *testing.T) {
	const plain, taken = "sms.send", mishap("") // the line of an acceptance
	tenth := func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }
	cut := func(at time.Time) Fault {
		return Fault{Kind: LimitProvider, Daemon: Everyone, Channel: "sms", From: at.Add(tenth(1)), To: at.Add(tenth(2))}
	}
	pause := func(at time.Time) Fault {
		return Fault{Kind: Stop, What: "d1.1", Daemon: 1, From: at, To: at.Add(Plan{Lease: time.Second}.lookSpan() + tenth(1))}
	}
	for _, tt := range []struct {
		name   string
		typ    string
		state  string
		why    string
		lines  []mishap // a tenth of a second after each other, from the attempt on
		lies   bool
		fault  func(at time.Time) Fault
		oracle string // "" where it is as it should be
		text   string
	}{
		{"held", plain, "held", "", nil, false, nil, "O1", "no fault fell on its attempt"},
		{"held since an answer was cut", plain, "held", "", nil, false, cut, "", ""},
		{"held after a 503", plain, "held", "", []mishap{broken}, false, nil, "", ""},
		{"held, and listed", plain, "held", "", []mishap{brokenTaken, taken}, false, nil, "O1", "Twilio has it"},
		{"held, and the list lies", plain, "held", "", []mishap{brokenTaken, taken}, true, nil, "", ""},
		{"held, and taken after a long pause", plain, "held", "", []mishap{taken}, false, pause, "", ""},
		{"twice", plain, "delivered", "", []mishap{cutAfter, taken, taken}, true, cut, "O4", "accepted 2 times"},
		{"dead", plain, "dead", "unknown_outcome: x", []mishap{broken}, false, nil, "O1", "is dead"},

		{"to be sent again, and held", resendMissing, "held", "", []mishap{broken}, false, nil, "O1", "should have been sent again"},
		{"sent again after a 503", resendMissing, "delivered", "", []mishap{broken, taken}, false, nil, "", ""},
		{"sent again, and listed", resendMissing, "delivered", "", []mishap{cutAfter, taken, taken}, false, nil, "O4", "accepted 2 times"},
		{"sent again, and the list lies", resendMissing, "delivered", "", []mishap{cutAfter, taken, taken}, true, nil, "", ""},
		{"sent again without a reason, and the list lies", resendMissing, "delivered", "", []mishap{taken, taken}, true, nil, "O4", "accepted 2 times"},
		{"sent again after a long pause", resendMissing, "delivered", "", []mishap{taken, taken}, false, pause, "", ""},

		{"never twice, and delivered", neverTwice, "delivered", "", []mishap{throttled, taken}, false, nil, "", ""},
		{"never twice, and given up", neverTwice, "dead", "unknown_outcome: x", []mishap{cutAfter, taken}, false, nil, "", ""},
		{"never twice, and given up without a reason", neverTwice, "dead", "unknown_outcome: x", nil, false, nil, "O1", "no fault fell on its attempt"},
		{"never twice, and dead of something else", neverTwice, "dead", "no attempts left", []mishap{broken}, false, nil, "O1", "is dead"},
		{"never twice, and held", neverTwice, "held", "", []mishap{broken}, false, nil, "O1", "is held"},
		{"never twice, and again after a 503", neverTwice, "delivered", "", []mishap{broken, taken}, false, nil, "O4", "a request after one"},
		{"never twice, and again after it was taken", neverTwice, "delivered", "", []mishap{taken, throttled}, false, cut, "O4", "a request after one"},
		{"never twice, and taken twice", neverTwice, "delivered", "", []mishap{cutAfter, taken, cutAfter, taken}, true, pause, "O4", "a request after one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev, sms, _, _, _ := honest()
			ev.Produced[0].Type, ev.Plan.ListLies = tt.typ, tt.lies
			d := &ev.Deliveries[slices.IndexFunc(ev.Deliveries, func(d DeliveryRow) bool { return d.Event == sms })]
			d.State, d.Error = tt.state, tt.why
			ev.Events[0].Processed = tt.state != "held"
			sent := &ev.Changes[slices.IndexFunc(ev.Changes, func(c Change) bool { return c.Event == sms && c.Delivery != nil })]
			until := sent.At.Add(time.Second)
			sent.State, sent.Until = "sending", &until
			unsure, over := *sent, *sent // a tenth of a second and a half later, and in the end
			claim := uuid.NewSHA1(sms, []byte("recorded"))
			unsure.At, unsure.OldClaim, unsure.Claim, unsure.OldUntil = sent.At.Add(tenth(3)/2), sent.Claim, &claim, sent.Until
			unsure.OldState, unsure.State, unsure.OldAttempts = new("sending"), "uncertain", new(1)
			over.At, over.OldClaim, over.Claim, over.Until = sent.At.Add(tenth(5)), &claim, &claim, nil
			over.OldState, over.State, over.OldAttempts = new("uncertain"), tt.state, new(1)
			ev.Changes = append(ev.Changes, unsure, over)
			ev.Provided = slices.DeleteFunc(ev.Provided, func(l Line) bool { return l.Event == sms.String() })
			for i, m := range tt.lines {
				l := Line{At: sent.At.Add(tenth(i)), Channel: "sms", Event: sms.String(), Fault: string(m)}
				if m == taken {
					l.ID = "SM1"
				}
				ev.Provided = append(ev.Provided, l)
			}
			if tt.fault != nil {
				ev.Faults = append(ev.Faults, tt.fault(sent.At))
			}
			finds(t, ev, tt.oracle, tt.text)
		})
	}
}

// TestOnce: webhooks, e-mails and requests that must not be sent again are not, whatever follows where
// nobody knows whether they arrived.
func TestOnce(t *testing.T) {
	const taken = mishap("") // the line of an acceptance
	for _, tt := range []struct {
		name   string
		typ    string
		state  string
		why    string
		lines  []mishap // a tenth of a second after each other, from the attempt on
		kill   bool     // whoever sent it
		oracle string   // "" where it is as it should be
		text   string
	}{
		{"a webhook, held", heldHook, "held", "", []mishap{cutAfter, taken}, false, "", ""},
		{"a webhook, held without a reason", heldHook, "held", "", []mishap{taken}, false, "O1", "no fault fell on its attempt"},
		{"a webhook, held after a 503", heldHook, "held", "", []mishap{broken}, false, "O1", "no fault fell on its attempt"},
		{"a webhook, held after a 502", heldHook, "held", "", []mishap{failedTaken, taken}, false, "", ""},
		{"a webhook, held since its sender died", heldHook, "held", "", []mishap{taken}, true, "", ""},
		{"a webhook to be held, and given up", heldHook, "dead", "unknown_outcome: x", []mishap{cutAfter, taken}, false, "O1", "is dead"},
		{"a webhook to be held, and sent again", heldHook, "delivered", "", []mishap{cutAfter, taken, taken}, false, "O4", "a request after one"},
		{"a webhook to be held, and sent again after a 503", heldHook, "delivered", "", []mishap{broken, taken}, false, "", ""},
		{"a webhook, given up", onceHook, "dead", "unknown_outcome: x", []mishap{failedTaken, taken}, false, "", ""},
		{"a webhook to be given up, and held", onceHook, "held", "", []mishap{cutAfter, taken}, false, "O1", "it may not be"},
		{"a webhook to be given up, and sent again since its sender died", onceHook, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"a webhook to be given up, and asked for again after a 502", onceHook, "delivered", "", []mishap{failedTaken, taken, throttled}, false, "O4", "a request after one"},
		{"an e-mail, held since its sender died", heldMail, "held", "", []mishap{taken}, true, "", ""},
		{"an e-mail to be held, and sent again", heldMail, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"an e-mail, given up since its sender died", onceMail, "dead", "unknown_outcome: x", nil, true, "", ""},
		{"an e-mail to be given up, and sent again", onceMail, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"a request, made once", request, "delivered", "", []mishap{throttled, broken, taken}, false, "", ""},
		{"a request, held", request, "held", "", []mishap{cutAfter, taken}, false, "", ""},
		{"a request, made twice", request, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"a request, asked for again after it was cut", request, "delivered", "", []mishap{cutAfter, taken, broken}, false, "O4", "a request after one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev, _, _, event, _ := honest()
			channel := types[tt.typ][0]
			ev.Produced[2].Type = tt.typ
			ev.Events[2].Processed = tt.state != "held"
			d := &ev.Deliveries[slices.IndexFunc(ev.Deliveries, func(d DeliveryRow) bool { return d.Event == event })]
			d.State, d.Error, d.Channel = tt.state, tt.why, channel
			sent := &ev.Changes[slices.IndexFunc(ev.Changes, func(c Change) bool { return c.Event == event && c.Delivery != nil })]
			until := sent.At.Add(time.Second)
			sent.State, sent.Until = "sending", &until
			over := *sent // half a second later
			claim := uuid.NewSHA1(event, []byte("recorded"))
			over.At, over.OldClaim, over.Claim, over.OldUntil, over.Until = sent.At.Add(time.Second/2), sent.Claim, &claim, sent.Until, nil
			over.OldState, over.State, over.OldAttempts = new("sending"), tt.state, new(1)
			if tt.kill { // then another has the record
				over.App, over.At = "d0.9", sent.At.Add(2*time.Second)
				ev.Faults = append(ev.Faults, Fault{Kind: Kill, What: sent.App, Daemon: 1, From: sent.At, To: sent.At})
			}
			ev.Changes = append(ev.Changes, over)
			ev.Provided = slices.DeleteFunc(ev.Provided, func(l Line) bool { return l.Event == event.String() })
			for i, m := range tt.lines {
				l := Line{At: sent.At.Add(time.Duration(i) * 100 * time.Millisecond), Channel: channel, Event: event.String(), Fault: string(m)}
				if m == taken {
					l.ID = d.ID.String()
				}
				ev.Provided = append(ev.Provided, l)
			}
			finds(t, ev, tt.oracle, tt.text)
		})
	}
}

// TestLeaks: a secret is found in any form that it may have in a text, and what is private where
// that is no content.
func TestLeaks(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		content    bool
		want       int
	}{
		{"nothing", `{"msg":"attempt","event":"00000000-0000-4000-8000-000000000001","to":"+1*******09"}`, false, 0},
		{"a secret", "x" + authToken + "y", false, 1},
		{"a secret in content", passwordCanary, true, 1},
		{"a secret in base64", base64.StdEncoding.EncodeToString([]byte(openAIKey)), false, 1},
		{"a secret in a URL", "a=" + url.QueryEscape("a secret of the fault rig's own"), false, 1},
		{"a number and an address", "+15005550009 ann@example.com", false, 2},
		{"a number in content", "+15005550009", true, 0},
		{"words of an event", "#00000000-0000-4000-8000-000000000001#", false, 1},
	} {
		if got := leaks(tt.text, tt.content); len(got) != tt.want {
			t.Errorf("%s: %q, want %d", tt.name, got, tt.want)
		}
	}
}

// TestHistory has everything about an event, and the fault beside it.
func TestHistory(t *testing.T) {
	ev, _, email, _, _ := honest()
	h := ev.History(email)
	for _, want := range []string{
		"seed 7", "producer: committed", "provider: email accepted", "event by d0.1: open, claim none -> ",
		"by d1.1: open -> processed", "delivered, attempts 1", "FAULT: SIGKILL d0.1",
	} {
		if !strings.Contains(h, want) {
			t.Errorf("no %q in\n%s", want, h)
		}
	}
	if order := strings.Index(h, "FAULT"); order < strings.Index(h, "provider: email accepted") || order > strings.Index(h, "processed") {
		t.Errorf("not in order of time:\n%s", h)
	}
}

// TestPlan: a seed decides everything, and a row of them has every kind of
// fault and every point.
func TestPlan(t *testing.T) {
	if a, b := NewPlan(5, 200, time.Second).String(), NewPlan(5, 200, time.Second).String(); a != b || a == NewPlan(6, 200, time.Second).String() {
		t.Errorf("not decided by the seed:\n%s\n%s", a, b)
	}
	kinds, points, sizes := map[Kind]bool{}, map[string]bool{}, map[[2]int]bool{}
	for seed := range uint64(40) {
		p := NewPlan(seed, 200, time.Second)
		sizes[[2]int{p.Batch, p.Workers}] = true
		n, back, late := 0, 0, 0
		for _, tx := range p.Transactions {
			switch {
			case tx.Rollback:
				back++
			default:
				n += len(tx.Events)
			}
			if tx.Hold > 0 {
				late++
			}
		}
		if n < 200 || back == 0 || late == 0 || p.Daemons < 1 || p.Daemons > 3 {
			t.Errorf("seed %d: %d events to be committed, %d rollbacks, %d late, %d daemons", seed, n, back, late, p.Daemons)
		}
		for _, f := range p.Faults {
			kinds[f.Kind] = true
		}
		name, _, _ := strings.Cut(p.First[0], "=")
		points[name] = true
		for _, must := range []Kind{Kill, Stop, Terminate, CutDatabase, LimitProvider, Failpoint} {
			if !slices.ContainsFunc(p.Faults, func(f Planned) bool { return f.Kind == must }) {
				t.Errorf("seed %d has no %s", seed, must)
			}
		}
	}
	if len(kinds) != 15 || len(points) != len(failpoints) {
		t.Errorf("%d kinds of faults, %d points", len(kinds), len(points))
	}
	for _, batch := range []int{1, 10, 1000} {
		for _, workers := range []int{8, 16} {
			if !sizes[[2]int{batch, workers}] {
				t.Errorf("no plan has batches of %d and %d workers", batch, workers)
			}
		}
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
