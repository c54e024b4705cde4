package operate

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/listener"
)

// TestSucceeded: of several deliveries to one address, those that were replayed are
// told from those that were not.
func TestSucceeded(t *testing.T) {
	t.Parallel()
	a, b, anew := kin{uuid.New(), 0}, kin{uuid.New(), 0}, kin{uuid.New(), 1}
	a1 := kin{listener.ReplayID(a.id, 7, 1), 1}
	a2 := kin{listener.ReplayID(a1.id, 9, 2), 2}
	b1 := kin{listener.ReplayID(b.id, 7, 1), 1}
	for _, tt := range []struct {
		name   string
		family []kin
		want   []kin
	}{
		{"none", nil, nil},
		{"not replayed", []kin{a, b}, nil},
		{"one of two", []kin{a, b, a1}, []kin{a}},
		{"both", []kin{a, b, a1, b1}, []kin{a, b}},
		{"a replay of a replay", []kin{a2, b, a1, a}, []kin{a, a1}},
		{"whose parent is gone", []kin{a2, b}, []kin{b}},
		{"planned anew", []kin{a, b, anew}, []kin{a, b}},
		{"planned anew, beside a replay", []kin{a, b, b1, anew}, []kin{a, b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := succeeded(tt.family)
			for _, k := range tt.want {
				if i := slices.Index(got, k.id); i < 0 {
					t.Errorf("not succeeded: %v", k)
				} else {
					got = slices.Delete(got, i, i+1)
				}
			}
			if len(got) > 0 {
				t.Errorf("succeeded, too: %v", got)
			}
		})
	}
}
