//go:build unix

package faultrig

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

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
		{"a webhook, held after a 503", heldHook, "held", "", []mishap{broken}, false, "", ""},
		{"a webhook, held after a 503 that was taken", heldHook, "held", "", []mishap{brokenTaken, taken}, false, "", ""},
		{"a webhook, held after a 503 that asked to come again", heldHook, "held", "", []mishap{closed}, false, "O1", "no fault fell on its attempt"},
		{"a webhook, held after a 502", heldHook, "held", "", []mishap{failedTaken, taken}, false, "", ""},
		{"a webhook, held since its sender died", heldHook, "held", "", []mishap{taken}, true, "", ""},
		{"a webhook to be held, and given up", heldHook, "dead", "unknown_outcome: x", []mishap{cutAfter, taken}, false, "O1", "is dead"},
		{"a webhook to be held, and sent again", heldHook, "delivered", "", []mishap{cutAfter, taken, taken}, false, "O4", "a request after one"},
		{"a webhook to be held, and sent again after a 503", heldHook, "delivered", "", []mishap{broken, taken}, false, "O4", "a request after one"},
		{"a webhook to be held, and sent again as a 503 asked", heldHook, "delivered", "", []mishap{closed, taken}, false, "", ""},
		{"a webhook, given up", onceHook, "dead", "unknown_outcome: x", []mishap{failedTaken, taken}, false, "", ""},
		{"a webhook to be given up, and held", onceHook, "held", "", []mishap{cutAfter, taken}, false, "O1", "it may not be"},
		{"a webhook to be given up, and sent again since its sender died", onceHook, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"a webhook to be given up, and asked for again after a 502", onceHook, "delivered", "", []mishap{failedTaken, taken, throttled}, false, "O4", "a request after one"},
		{"an e-mail to be held, and sent again after a 451", heldMail, "delivered", "", []mishap{broken, taken}, false, "", ""},
		{"an e-mail, held since its sender died", heldMail, "held", "", []mishap{taken}, true, "", ""},
		{"an e-mail to be held, and sent again", heldMail, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"an e-mail, given up since its sender died", onceMail, "dead", "unknown_outcome: x", nil, true, "", ""},
		{"an e-mail to be given up, and sent again", onceMail, "delivered", "", []mishap{taken, taken}, true, "O4", "a request after one"},
		{"a request, made once", request, "delivered", "", []mishap{throttled, closed, taken}, false, "", ""},
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
