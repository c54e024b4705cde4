package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	careful := dispatch.Policy{OnUnknown: dispatch.Hold}
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
		n      int
		err    *dispatch.Error
		want   dispatch.State
	}{
		{"taken", careful, 1, nil, dispatch.Delivered},
		{"taken at the last attempt", careful, 12, nil, dispatch.Delivered},
		{"rejected", careful, 1, &dispatch.Error{Kind: dispatch.Rejected}, dispatch.Dead},
		{"down", careful, 11, &dispatch.Error{Kind: dispatch.Down}, dispatch.Retry},
		{"down at the last attempt", careful, 12, &dispatch.Error{Kind: dispatch.Down}, dispatch.Dead},
		{"throttled", careful, 1, &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: time.Minute}, dispatch.Retry},
		{"unknown, to be held", careful, 1, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Held},
		{"unknown at the last attempt, to be held", careful, 12, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Held},
		{"unknown, as a later version has it", dispatch.Policy{OnUnknown: "ask_the_oracle"}, 1, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Held},
		{"unknown, to be asked", dispatch.Policy{OnUnknown: dispatch.Reconcile}, 1, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Uncertain},
		{"unknown at the last attempt, to be asked", dispatch.Policy{OnUnknown: dispatch.Reconcile}, 12, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Uncertain},
		{"unknown, never twice", dispatch.Policy{OnUnknown: dispatch.NeverTwice}, 1, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Dead},
		{"down, never twice", dispatch.Policy{OnUnknown: dispatch.NeverTwice}, 1, &dispatch.Error{Kind: dispatch.Down}, dispatch.Retry},
		{"unknown, to be sent again", dispatch.Policy{}, 1, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Uncertain},
		{"unknown at the last attempt", dispatch.Policy{}, 12, &dispatch.Error{Kind: dispatch.Unknown}, dispatch.Dead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := dispatch.Decide(tt.policy, tt.n, 12, dispatch.Receipt{}, tt.err)
			if o.State != tt.want || o.Attempts != tt.n {
				t.Errorf("Decide = %+v, want %s", o, tt.want)
			}
			if tt.err != nil && o.MinWait != tt.err.RetryAfter {
				t.Errorf("waits at least %s, want %s", o.MinWait, tt.err.RetryAfter)
			}
		})
	}
}

type rude struct{}

func (rude) Error() string { panic("no text for you") }

type senderFunc func() error

func (f senderFunc) Send(context.Context, *dispatch.Delivery) (dispatch.Receipt, error) {
	return dispatch.Receipt{}, f()
}

// TestOddErrors: whatever a sender returns or throws is an outcome.
func TestOddErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		send senderFunc
		kind dispatch.Kind
		text string
	}{
		{"a nil of our type", func() error { return (*dispatch.Error)(nil) }, dispatch.Unknown, ""},
		{"a text that panics", func() error { return rude{} }, dispatch.Unknown, "whose text panicked"},
		{"a cause whose text panics", func() error { return &dispatch.Error{Kind: dispatch.Rejected, Err: rude{}} }, dispatch.Rejected, "whose text panicked"},
		{"a panic", func() error { panic("boom") }, dispatch.Unknown, "boom"},
		{"a panic with an error", func() error { panic(rude{}) }, dispatch.Unknown, "panic"},
		{"a wrapped one", func() error { return errors.Join(errors.New("more"), &dispatch.Error{Kind: dispatch.Down}) }, dispatch.Down, "down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := dispatch.New()
			d.Register("x", tt.send, dispatch.Policy{})
			_, err := d.Send(t.Context(), &dispatch.Delivery{Message: dispatch.Message{Channel: "x"}})
			if err == nil || err.Kind != tt.kind || err.Channel != "x" || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v", err)
			}
		})
	}
}
