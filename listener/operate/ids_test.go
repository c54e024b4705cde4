package operate_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestIDsNotThere: an id that is not in the ledger is reported, also where there is a limit, as
// requests to the admin endpoint have one; where another part of the filter, or the limit, may
// have left it out, nothing is said.
func TestIDsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 1)
	gone := uuid.New()
	ids := []uuid.UUID{gone, uuid.New(), gone}
	for _, tt := range []struct {
		name   string
		filter operate.Filter
		want   string
	}{
		{"ids alone", operate.Filter{IDs: ids}, "[{not in the ledger 2}]"},
		{"with the limit of the admin endpoint", operate.Filter{IDs: ids, Limit: 10_000}, "[{not in the ledger 2}]"},
		{"with room for just those", operate.Filter{IDs: ids, Limit: 2}, "[{not in the ledger 2}]"},
		{"with a limit that leaves out some", operate.Filter{IDs: ids, Limit: 1}, "[]"},
		{"in a state", operate.Filter{IDs: ids, States: []dispatch.State{"retry"}}, "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := w.o.Do(t.Context(), operate.Request{Action: operate.Cancel, Filter: tt.filter, By: kim})
			if err != nil || res.Matched != 0 || fmt.Sprint(res.Refused) != tt.want {
				t.Errorf("%+v, %v; want refused %s", res, err, tt.want)
			}
		})
	}
}
