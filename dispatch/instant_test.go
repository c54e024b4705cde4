package dispatch

import (
	"context"
	"testing"
	"time"
)

// watcher remembers the deadline that it was given.
type watcher struct{ deadline *bool }

func (w watcher) Send(ctx context.Context, _ *Delivery) (Receipt, error) {
	_, *w.deadline = ctx.Deadline()
	return Receipt{}, nil
}

type instantWatcher struct{ watcher }

func (instantWatcher) Instant() {}

// TestDeadline: whoever may wait has a deadline, and only an Instant one has
// none.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		sender func(w watcher) Sender
		want   bool
	}{
		{"one that may wait", func(w watcher) Sender { return w }, true},
		{"one that never waits", func(w watcher) Sender { return instantWatcher{w} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got bool
			d := New()
			d.Register("x", tt.sender(watcher{&got}), Policy{Timeout: time.Minute})
			if _, err := d.Send(t.Context(), &Delivery{Message: Message{Channel: "x"}}); err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("deadline: %t, want %t", got, tt.want)
			}
		})
	}
}
