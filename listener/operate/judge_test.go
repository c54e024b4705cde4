package operate

import (
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestRefuse(t *testing.T) {
	t.Parallel()
	at := func(s dispatch.State) facts { return facts{state: s, channel: "sms", content: true} }
	with := func(f facts, change func(*facts)) facts { change(&f); return f }
	for _, tt := range []struct {
		name   string
		action Action
		even   bool
		f      facts
		want   string
	}{
		{"a dead one is replayed", Replay, false, at("dead"), ""},
		{"so is an expired one", Replay, false, at("expired"), ""},
		{"so is a canceled one", Replay, false, at("canceled"), ""},
		{"so is a skipped one", Replay, false, with(at("skipped"), func(f *facts) { f.content = false }), ""},
		{"a delivered one is not", Replay, false, at("delivered"), "delivered"},
		{"unless that is meant", Replay, true, at("delivered"), ""},
		{"a held one is released", Replay, true, at("held"), "held: to be released, not replayed"},
		{"one that is not over", Replay, true, at("retry"), "not over yet: retry"},
		{"one that has a successor", Replay, false, with(at("dead"), func(f *facts) { f.newer = true }), "there is a newer delivery in its place"},
		{"one that is out of date", Replay, false, with(at("dead"), func(f *facts) { f.superseded = true }), "superseded by a newer event"},
		{"one that never was", Replay, false, facts{state: "skipped"}, "its event had no delivery; open the event again"},
		{"one of which nothing is left", Replay, true, facts{state: "delivered", channel: "sms", eventGone: true}, "its event was deleted, and its content is not kept"},
		{"one whose event is gone, with its content", Replay, false, with(at("dead"), func(f *facts) { f.eventGone = true }), ""},

		{"one that is sent", Cancel, false, at("sending"), "being sent at this moment"},
		{"one that is leased", Cancel, false, with(at("retry"), func(f *facts) { f.leased = true }), "a listener works on it at this moment"},
		{"one whose event is claimed", Cancel, false, with(at("scheduled"), func(f *facts) { f.inHand = true }), "its event is being worked on, or about to be"},
		{"a scheduled one is canceled", Cancel, false, at("scheduled"), ""},
		{"so is a held one", Cancel, false, at("held"), ""},
		{"so is an uncertain one", Cancel, false, at("uncertain"), ""},
		{"so is one that waits", Cancel, false, with(at("ready"), func(f *facts) { f.waits = true }), ""},
		{"a dead one is over", Cancel, false, at("dead"), "over already: dead"},

		{"one that waits for its time is held", Hold, false, at("scheduled"), ""},
		{"one that waits for others is not", Hold, false, with(at("ready"), func(f *facts) { f.waits = true }), "waits for other steps of its route; hold those"},
		{"one that is held", Hold, false, at("held"), "held already"},
		{"one that is over", Hold, false, at("delivered"), "over already: delivered"},

		{"a held one is released", Release, false, at("held"), ""},
		{"no other is", Release, false, at("ready"), "not held: ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Request{Action: tt.action, EvenDelivered: tt.even}
			if got := r.refuse(&tt.f); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
