package listener

import (
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestLineage: a delivery is recognised wherever its event stands, whether it was
// planned or replayed, and a replay of a replay too.
func TestLineage(t *testing.T) {
	t.Parallel()
	ev := uuid.MustParse("6e1f4d2c-8a55-4bd1-9d5b-0c6f1a2b3c4d")
	m := &dispatch.Message{Route: "direct", Step: "sms", Recipient: "+15005550006"}
	other := &dispatch.Message{Route: "direct", Step: "sms", Recipient: "+15005550007"}
	first := deliveryID(7, ev, m, 0)
	second := ReplayID(first, 7, 1)
	reopened := deliveryID(9, ev, m, 2)
	for _, tt := range []struct {
		name       string
		id         uuid.UUID
		generation int
		want       bool
	}{
		{"planned", first, 0, true},
		{"planned elsewhere", deliveryID(1<<40, ev, m, 0), 0, true},
		{"opened again", reopened, 2, true},
		{"replayed", second, 1, true},
		{"replayed, at another place", ReplayID(first, 8, 1), 1, true},
		{"replayed twice", ReplayID(second, 7, 2), 2, true},
		{"replayed after it was opened again", ReplayID(reopened, 9, 3), 3, true},
		{"another generation", second, 2, false},
		{"another recipient's", deliveryID(7, ev, other, 0), 0, false},
		{"a replay of another recipient's", ReplayID(deliveryID(7, ev, other, 0), 7, 1), 1, false},
		{"of another event", deliveryID(7, uuid.New(), m, 0), 0, false},
		{"too old to be followed", deliveryID(7, ev, m, 1000), 1000, true},
		{"from nowhere", second, -1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			own := lineage{event: ev, message: m}
			if got := own.standsFor(tt.id, tt.generation); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
	if v := second.Version(); v != 8 || second.Variant() != uuid.RFC4122 || [6]byte(second[:6]) != [6]byte(first[:6]) {
		t.Errorf("%s: version %d", second, v)
	}
}
