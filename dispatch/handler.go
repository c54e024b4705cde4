package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Handler does in Go what an event asks for.
//
// Handle returns nil once the work is done. An error that is or wraps an
// *Error says itself what follows; see Reject and Later. After any other
// error the event is tried again later. After a panic it is uncertain what
// was done, and it is tried again too. So Handle may be called more than once
// for one event: Event.ID is the same each time.
//
// The event's payload is the one that was committed with it.
type Handler interface {
	Handle(ctx context.Context, ev Event) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, ev Event) error

// Handle implements Handler.
func (f HandlerFunc) Handle(ctx context.Context, ev Event) error { return f(ctx, ev) }

// Handle makes h the handler of events of exactly this type. It panics when
// the type has a route or a handler already, since that is a programming
// error.
func (d *Dispatcher) Handle(eventType string, h Handler) {
	switch {
	case eventType == "":
		panic("dispatch: Handle: empty event type")
	case h == nil:
		panic(fmt.Sprintf("dispatch: Handle: no handler for %q", eventType))
	case d.routes[eventType] != nil:
		panic(fmt.Sprintf("dispatch: event type %q has a route already", eventType))
	}
	if !d.Configured(ChannelHandler) {
		d.Register(ChannelHandler, handlers{}, Policy{})
	}
	hs, ok := d.senders[ChannelHandler].sender.(handlers)
	if !ok {
		panic(fmt.Sprintf("dispatch: channel %q has a sender of another kind", ChannelHandler))
	}
	hs[eventType] = h
	d.routes[eventType] = handlerPlan(eventType)
}

func handlerPlan(eventType string) PlanFunc {
	return func(_ context.Context, ev Event) []Message {
		return []Message{planAny(ev, Message{Route: "handler", Step: eventType, Channel: ChannelHandler})}
	}
}

// handlers is the sender of ChannelHandler.
type handlers map[string]Handler

// Destination implements Addressed: each handler may be slow by itself.
func (hs handlers) Destination(d *Delivery) string { return d.Type }

// Send implements Sender.
func (hs handlers) Send(ctx context.Context, d *Delivery) (Receipt, error) {
	h, ok := hs[d.Type]
	if !ok { // a handler that an earlier version of the program had
		return Receipt{}, &Error{Channel: ChannelHandler, Kind: Down, Err: fmt.Errorf("no handler for event type %q", d.Type)}
	}
	err := h.Handle(ctx, Event{ID: d.EventID, Type: d.Type, Payload: d.Content, CreatedAt: d.Date})
	if err == nil {
		return Receipt{}, nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return Receipt{}, &Error{Channel: ChannelHandler, Kind: Down, Err: err}
	}
	if e == nil { // a nil *Error that was returned as an error
		return Receipt{}, nil
	}
	own := *e
	own.Channel = ChannelHandler
	return Receipt{}, &own
}

// Reject returns the error of a handler that will never succeed with this
// event: it is not tried again.
func Reject(err error) *Error {
	return &Error{Channel: ChannelHandler, Kind: Rejected, Err: err}
}

// Later returns the error of a handler that wants to be called again, not
// before after has passed. MaxRetryAfter is the longest wait.
func Later(err error, after time.Duration) *Error {
	return &Error{Channel: ChannelHandler, Kind: Down, RetryAfter: min(max(after, 0), MaxRetryAfter), Err: err}
}
