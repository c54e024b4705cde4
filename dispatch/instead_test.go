package dispatch

import (
	"testing"
	"time"
)

func TestInstead(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		st   Standing
		send bool
		skip string
		wait time.Duration
	}{
		{"undelivered", Standing{State: Delivered, Fate: FateUndelivered, Over: time.Hour}, true, "", 0},
		{"failed", Standing{State: Delivered, Fate: FateFailed}, true, "", 0},
		{"undelivered, and not on record as taken yet", Standing{State: Sending, Fate: FateUndelivered, Unclear: true}, true, "", 0},
		{"undelivered, of unknown outcome", Standing{State: Dead, Fate: FateUndelivered, Unclear: true}, true, "", 0},
		{"arrived", Standing{State: Delivered, Fate: FateDelivered}, false, "the step text arrived", 0},
		{"arrived, of unknown outcome", Standing{State: Dead, Fate: FateDelivered, Unclear: true}, false, "the step text arrived", 0},
		{"withdrawn at Twilio", Standing{State: Delivered, Fate: FateCanceled}, false, "the step text was withdrawn at its provider", 0},
		{"refused", Standing{State: Dead}, true, "", 0},
		{"of unknown outcome", Standing{State: Dead, Unclear: true, Over: time.Hour}, false, "", 23 * time.Hour},
		{"of unknown outcome, for good", Standing{State: Dead, Unclear: true, Over: day}, false, "no word came within 24h0m0s of whether the step text arrived", 0},
		{"taken", Standing{State: Delivered, Over: time.Hour}, false, "", 23 * time.Hour},
		{"sent on", Standing{State: Delivered, Fate: FateSent, Over: time.Hour}, false, "", 23 * time.Hour},
		{"no word", Standing{State: Delivered, Fate: FateSent, Over: day}, false, "no word came within 24h0m0s of whether the step text arrived", 0},
		{"canceled", Standing{State: Canceled}, false, "the step text was not sent (canceled)", 0},
		{"expired", Standing{State: Expired}, false, "the step text was not sent (expired)", 0},
		{"skipped", Standing{State: Skipped}, false, "the step text was not sent (skipped)", 0},
		{"held", Standing{State: Held, Unclear: true}, false, "", time.Hour},
		{"tried again", Standing{State: Retry}, false, "", time.Hour},
		{"scheduled", Standing{State: Scheduled}, false, "", time.Hour},
		{"gone", Standing{}, false, "the step text is not on record", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			send, skip, wait := tt.st.Instead("text", day)
			if send != tt.send || skip != tt.skip || wait != tt.wait {
				t.Errorf("%t, %q, %v", send, skip, wait)
			}
		})
	}
}
