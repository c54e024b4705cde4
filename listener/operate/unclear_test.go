package operate_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

func unknown(*dispatch.Delivery) error {
	return &dispatch.Error{Channel: "carrier", Kind: dispatch.Unknown}
}

// TestWhatMayHaveArrived is sent again only where that was asked for, and what a
// person held goes on where it was.
func TestWhatMayHaveArrived(t *testing.T) {
	t.Parallel()
	const refused = "may have arrived; --even-uncertain (even_uncertain) sends it all the same"
	for _, tt := range []struct {
		name    string
		policy  dispatch.Policy
		answer  func(*dispatch.Delivery) error
		before  string // what happened since
		held    bool   // by a person
		action  operate.Action
		refused string // without EvenUncertain
		state   string // without, where it is not refused
		even    string // and with
	}{
		{"never twice", dispatch.Policy{OnUnknown: dispatch.NeverTwice}, unknown, "", false, operate.Replay, refused, "", "dead 0, ready 1"},
		{"held by a listener", dispatch.Policy{OnUnknown: dispatch.Hold}, unknown, "", false, operate.Release, refused, "", "ready 0"},
		{"canceled while it was uncertain", dispatch.Policy{}, unknown, "update outbox.deliveries set state = 'canceled', finished_at = now()", false,
			operate.Replay, refused, "", "canceled 0, ready 1"},
		{"whose listener died", dispatch.Policy{}, down, "delete from outbox.attempts; update outbox.deliveries set state = 'expired', finished_at = now()", false,
			operate.Replay, refused, "", "expired 0, ready 1"},
		{"not taken", dispatch.Policy{}, rejected, "", false, operate.Replay, "", "dead 0, ready 1", "dead 0, ready 1"},
		{"uncertain, held by a person", dispatch.Policy{}, unknown, "", true, operate.Release, "", "uncertain 0", "ready 0"},
		{"not taken, held by a person", dispatch.Policy{}, down, "", true, operate.Release, "", "ready 0", "ready 0"},
	} {
		for _, even := range []bool{false, true} {
			name := tt.name
			if even {
				name += ", and meant"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, tt.answer)
				w.insert(1, "quote.sent")
				if _, err := w.listener(tt.policy).Once(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				if tt.before != "" {
					pgtest.Exec(t, w.db, tt.before)
				}
				f := operate.Filter{IDs: pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries`)}
				if tt.held {
					if res := w.do(operate.Request{Action: operate.Hold, Filter: f}); res.Done != 1 {
						t.Fatalf("not held: %+v", res)
					}
				}
				dry := w.do(operate.Request{Action: tt.action, Filter: f, EvenUncertain: even, DryRun: true})
				res := w.do(operate.Request{Action: tt.action, Filter: f, EvenUncertain: even})
				if dry.Done != res.Done {
					t.Errorf("the dry run said %d, %d are done", dry.Done, res.Done)
				}
				if tt.refused != "" && !even {
					if res.Done != 0 || len(res.Refused) != 1 || res.Refused[0].Reason != tt.refused {
						t.Errorf("%+v", res)
					}
					return
				}
				want := tt.state
				if even {
					want = tt.even
				}
				got := pgtest.QueryVal[string](t, w.db, `select string_agg(state || ' ' || generation, ', ' order by generation) from outbox.deliveries`)
				if res.Done != 1 || got != want {
					t.Errorf("%+v: %s, want %s", res, got, want)
				}
				if n := w.count(`stuck_at is not null and state not in ('dead', 'held') or held_from is not null`); n != 0 {
					t.Error("stuck_at or held_from stays")
				}
			})
		}
	}
}
