//go:build unix

package faultrig

import (
	"strings"
	"testing"
)

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
