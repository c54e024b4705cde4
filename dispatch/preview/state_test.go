package preview

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestState: when it is to be sent is said of what may be sent.
func TestState(t *testing.T) {
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		d    Delivery
		want string
	}{
		{"ready", Delivery{State: dispatch.Ready, Deadline: at}, "ready, not later than 2026-12-01T09:00:00Z"},
		{"scheduled", Delivery{State: dispatch.Scheduled, At: at, Deadline: at}, "scheduled for 2026-12-01T09:00:00Z, not later than 2026-12-01T09:00:00Z"},
		{"expired", Delivery{State: dispatch.Expired, Deadline: at}, "expired, not later than 2026-12-01T09:00:00Z"},
		{"skipped", Delivery{State: dispatch.Skipped, Reason: "sms not configured", Deadline: at}, "skipped: sms not configured"},
		{"refused", Delivery{State: dispatch.Dead, Reason: "no", Deadline: at}, "refused: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&printer{}).state(&tt.d); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
