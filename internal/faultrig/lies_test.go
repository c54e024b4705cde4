//go:build unix

package faultrig

import (
	"slices"
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

// stoodStill adds two lines too close together, of a process that had stood still until so long before the first.
func stoodStill(ev *Evidence, before time.Duration) {
	says(ev, 900*time.Millisecond, "claiming failed; trying again", "claiming failed; trying again")
	to := ev.Said[len(ev.Said)-2].At.Add(-before)
	ev.Faults = append(ev.Faults, Fault{Kind: Stop, What: "d0.1", From: to.Add(-time.Second), To: to})
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

// pausedLate is paused 2.7 s before, which was on record so long after it was asked for.
func pausedLate(ev *Evidence, event uuid.UUID, after time.Duration) {
	paused(ev, event, 2700*time.Millisecond, true)
	row := &ev.Attempts[len(ev.Attempts)-1]
	row.At = row.At.Add(after)
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

// died adds that the provider of event asked for three seconds, two before it took it, and that who was
// told so was killed so long after that.
func died(ev *Evidence, event uuid.UUID, after time.Duration) {
	deaf(ev, event, Kill, 0, 0)
	at := ev.Provided[len(ev.Provided)-1].At.Add(after)
	ev.Faults[len(ev.Faults)-1] = Fault{Kind: Kill, What: "d1.1", Daemon: 1, From: at, To: at}
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

// toldToEnd has the process that said, by unheard, that it does not know be told to end that long before.
func toldToEnd(ev *Evidence, before time.Duration) {
	i := slices.IndexFunc(ev.Changes, func(c Change) bool { return c.State == "uncertain" })
	at := ev.Changes[i].At
	ev.Faults[0] = Fault{Kind: Terminate, What: "d0.1", From: at.Add(-before), To: at.Add(10 * time.Millisecond)}
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
