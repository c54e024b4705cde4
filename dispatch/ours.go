package dispatch

import (
	"context"
	"errors"
)

// ErrLate is in the error of a Send that found out, before the first byte of a message
// left, that it is not its to send any more: see WithOurs. It is no attempt.
var ErrLate = errors.New("nothing was sent: too little was left of its lease")

type oursKey struct{}

// WithOurs returns a context that tells a Sender whether what it is about to send is
// still the caller's to send. What comes before that (a wait for a connection, name
// lookup, dial, TLS, login) may take longer than a lease lasts.
func WithOurs(ctx context.Context, ours func() bool) context.Context {
	return context.WithValue(ctx, oursKey{}, ours)
}

// Ours reports whether the first byte of a message may leave. A Sender asks with the
// context of Send when all is ready for it; without WithOurs it may.
func Ours(ctx context.Context) bool {
	ours, ok := ctx.Value(oursKey{}).(func() bool)
	return !ok || ours()
}
