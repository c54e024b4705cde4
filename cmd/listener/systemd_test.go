package main

import (
	"errors"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

func TestAlive(t *testing.T) {
	now := time.Now()
	const every = 3 * time.Second
	answers := func() error { return nil }
	away := func() error { return errors.New("refused") }
	for _, tt := range []struct {
		name string
		ago  time.Duration // of the last sweep; negative: none yet
		held int
		ping func() error
		want bool
	}{
		{"starting", -1, 0, answers, true},
		{"sweeping", 3 * time.Second, 0, answers, true},
		{"a little late", 18 * time.Second, 0, answers, true},
		{"stuck", 20 * time.Second, 0, answers, false},
		{"every hand at a slow provider", 2 * time.Minute, 36, answers, true},
		{"stuck with work in hand", 10 * time.Minute, 36, answers, false},
		{"no database: a restart would not help", 10 * time.Minute, 0, away, true},
	} {
		h := listener.Health{Held: tt.held}
		if tt.ago >= 0 {
			h.LastSweep = now.Add(-tt.ago)
		}
		if got := alive(h, now, every, tt.ping); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
