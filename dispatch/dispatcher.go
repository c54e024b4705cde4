package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
	"unicode/utf8"
)

// Dispatcher knows the channels and the routes. Register channels and
// handlers first, then use it from any number of goroutines.
type Dispatcher struct {
	senders map[Channel]registration
	routes  map[string]PlanFunc
	router  Router // nil: none
}

type registration struct {
	sender  Sender
	policy  Policy
	instant bool // the sender is Instant
}

// PlanFunc says what an event becomes. It must not send anything, and it must
// return the same messages whenever it is given the same event.
type PlanFunc func(ctx context.Context, ev Event) []Message

// New returns a Dispatcher that plans the direct events (see direct.go) and
// has no channels yet: their deliveries are skipped as "not configured".
func New() *Dispatcher {
	d := &Dispatcher{senders: map[Channel]registration{}, routes: map[string]PlanFunc{}}
	for typ, plan := range directEvents {
		d.routes[typ] = plan
	}
	return d
}

// Register makes s the sender of channel ch. It panics when ch already has
// one, and when p says Reconcile of a sender that is no Reconciler, since those
// are programming errors.
func (d *Dispatcher) Register(ch Channel, s Sender, p Policy) {
	if _, ok := d.senders[ch]; ok {
		panic(fmt.Sprintf("dispatch: channel %q registered twice", ch))
	}
	if p.Timeout == 0 {
		p.Timeout = DefaultTimeout
	}
	if p.OnUnknown == "" {
		p.OnUnknown = Resend
	}
	if _, can := s.(Reconciler); p.OnUnknown == Reconcile && !can {
		panic(fmt.Sprintf("dispatch: channel %q is to be reconciled, and its sender cannot be asked", ch))
	}
	_, instant := s.(Instant)
	d.senders[ch] = registration{s, p, instant}
}

// Configured reports whether ch has a sender, or needs none.
func (d *Dispatcher) Configured(ch Channel) bool {
	_, ok := d.senders[ch]
	return ok || ch == ChannelSQL
}

// Policy returns the policy of ch, or the zero Policy where it has no sender.
func (d *Dispatcher) Policy(ch Channel) Policy { return d.senders[ch].policy }

// Destination names the place that del goes to: its channel, and where that has
// several, which of them. A panic in the sender's Destination costs only that.
func (d *Dispatcher) Destination(del *Delivery) (name string) {
	defer func() {
		if recover() != nil {
			name = string(del.Channel)
		}
	}()
	if a, ok := d.senders[del.Channel].sender.(Addressed); ok {
		return string(del.Channel) + " " + a.Destination(del)
	}
	return string(del.Channel)
}

// RateKey names what a rate of del's channel is counted by, beside its
// destination: "" where that is all, or else " from " and a name.
func (d *Dispatcher) RateKey(del *Delivery) (name string) {
	defer func() {
		if recover() != nil {
			name = ""
		}
	}()
	if m, ok := d.senders[del.Channel].sender.(Metered); ok {
		return " from " + m.RateKey(del)
	}
	return ""
}

// Plan says what ev becomes: at least one message, sendable or with the
// reason why not. An error means that it cannot be said now. A panic in a plan
// refuses the event, nothing more.
func (d *Dispatcher) Plan(ctx context.Context, ev Event) (msgs []Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			msgs, err = []Message{{Refused: panicked("planning", r)}}, nil
		}
	}()
	plan, known := d.routes[ev.Type]
	if known {
		msgs = plan(ctx, ev)
	}
	if d.router != nil {
		more, err := d.router.Plan(ctx, ev)
		if err != nil {
			return nil, err
		}
		known = known || len(more) > 0
		msgs = append(msgs, more...)
	}
	switch {
	case !known:
		return []Message{{Skip: fmt.Sprintf("no route for event type %q", ev.Type)}}, nil
	case len(msgs) == 0:
		return []Message{{Skip: "the route has nothing to deliver for this event"}}, nil
	}
	for i := range msgs {
		m := &msgs[i]
		if twin := slices.IndexFunc(msgs[:i], m.sameAs); twin >= 0 {
			m.Refused = fmt.Sprintf("the route has two messages for step %q to one recipient; give them different steps", m.Step)
			m.Step += fmt.Sprintf("#%d", i+1)
		}
		d.check(m)
	}
	return msgs, nil
}

// check marks what cannot be sent as it is.
func (d *Dispatcher) check(m *Message) {
	if m.Content != nil && !m.known() && !(utf8.Valid(m.Content) && json.Valid(m.Content)) {
		m.Refused, m.Content = "the content is not JSON", nil
	}
	if m.Refused == "" && m.Skip == "" && !d.Configured(m.Channel) {
		m.Skip = fmt.Sprintf("%s not configured", m.Channel)
	}
}

func panicked(doing string, r any) string {
	return MaskText(fmt.Sprintf("%s panicked: %v", doing, r))
}

// sameAs reports whether m and o would be one delivery.
func (m *Message) sameAs(o Message) bool {
	return m.Route == o.Route && m.Step == o.Step && m.Recipient == o.Recipient && m.Item == o.Item
}

// Send makes one attempt within the channel's timeout and returns what came
// of it. The error is nil exactly when the provider took the delivery.
func (d *Dispatcher) Send(ctx context.Context, del *Delivery) (r Receipt, e *Error) {
	reg, ok := d.senders[del.Channel]
	if !ok {
		return Receipt{}, &Error{Channel: del.Channel, Kind: Down, Err: fmt.Errorf("channel not configured")}
	}
	if !reg.instant {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, reg.policy.Timeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			r, e = Receipt{}, &Error{Channel: del.Channel, Kind: Unknown, Err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	r, err := reg.sender.Send(ctx, del)
	if err != nil {
		return Receipt{}, AsError(del.Channel, err)
	}
	return r, nil
}

// PanicError is the cause of an Error when a sender or handler panicked.
type PanicError struct {
	Value any
	Stack []byte // for the log; never part of the error text
}

// Error implements error.
func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// MaxRetryAfter caps what a provider may ask for.
const MaxRetryAfter = 24 * time.Hour

// Route makes plan say what events of exactly this type become. It panics
// when the type has a route already, since that is a programming error.
func (d *Dispatcher) Route(eventType string, plan PlanFunc) {
	if _, ok := d.routes[eventType]; ok {
		panic(fmt.Sprintf("dispatch: event type %q has a route already", eventType))
	}
	d.routes[eventType] = plan
}
