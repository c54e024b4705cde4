package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func handled(t *testing.T, d *Dispatcher, ev Event) (Receipt, *Error) {
	t.Helper()
	msgs, _ := d.Plan(t.Context(), ev)
	if len(msgs) != 1 || msgs[0].Refused != "" || msgs[0].Skip != "" {
		t.Fatalf("planned %+v", msgs)
	}
	return d.Send(t.Context(), &Delivery{
		ID: uuid.New(), EventID: ev.ID, Type: ev.Type, Date: ev.CreatedAt, Attempt: 1, Message: msgs[0],
	})
}

func TestHandleGetsTheEvent(t *testing.T) {
	d := New()
	var got, other Event
	d.Handle("user.created", HandlerFunc(func(_ context.Context, ev Event) error { got = ev; return nil }))
	d.Handle("user.deleted", HandlerFunc(func(_ context.Context, ev Event) error { other = ev; return nil }))
	want := Event{ID: uuid.New(), Type: "user.created", Payload: json.RawMessage(`{"n": 9007199254740993}`), CreatedAt: time.Now()}

	msgs, _ := d.Plan(t.Context(), want)
	if m := msgs[0]; m.Route != "handler" || m.Step != "user.created" || m.Channel != ChannelHandler || m.Recipient != "" {
		t.Errorf("planned %+v", m)
	}
	if _, e := handled(t, d, want); e != nil {
		t.Fatal(e)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handler got %+v, want %+v", got, want)
	}
	if other.Type != "" {
		t.Error("the handler of another type was called")
	}
}

func TestHandleOutcomes(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name string
		h    HandlerFunc
		want Kind // "" means done
		wait time.Duration
	}{
		{"done", func(context.Context, Event) error { return nil }, "", 0},
		{"failed", func(context.Context, Event) error { return boom }, Down, 0},
		{"refused", func(context.Context, Event) error { return Reject(boom) }, Rejected, 0},
		{"refused, wrapped", func(context.Context, Event) error { return fmt.Errorf("in step 2: %w", Reject(boom)) }, Rejected, 0},
		{"later", func(context.Context, Event) error { return Later(boom, time.Minute) }, Down, time.Minute},
		{"much later", func(context.Context, Event) error { return Later(boom, 1000*time.Hour) }, Down, MaxRetryAfter},
		{"earlier", func(context.Context, Event) error { return Later(boom, -time.Hour) }, Down, 0},
		{"uncertain", func(context.Context, Event) error { return &Error{Channel: ChannelSMS, Kind: Unknown, Err: boom} }, Unknown, 0},
		{"a nil *Error is none", func(context.Context, Event) error { var e *Error; return e }, "", 0},
		{"panicked", func(context.Context, Event) error { panic(boom) }, Unknown, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New()
			d.Handle("x", tt.h)
			_, e := handled(t, d, Event{ID: uuid.New(), Type: "x", Payload: json.RawMessage(`{}`)})
			if tt.want == "" {
				if e != nil {
					t.Fatal(e)
				}
				return
			}
			if e == nil || e.Kind != tt.want || e.RetryAfter != tt.wait || e.Channel != ChannelHandler {
				t.Fatalf("got %+v, want %s after %s", e, tt.want, tt.wait)
			}
			if tt.want != Unknown && !errors.Is(e, boom) {
				t.Errorf("the cause of %v is lost", e)
			}
		})
	}
}

func TestHandleRefusesWhatCannotBeRead(t *testing.T) {
	d := New()
	d.Handle("x", HandlerFunc(func(context.Context, Event) error { return nil }))
	deep := json.RawMessage(strings.Repeat("[", 10_500) + strings.Repeat("]", 10_500))
	if m, _ := d.Plan(t.Context(), Event{Type: "x", Payload: deep}); !strings.Contains(m[0].Refused, "nested too deep") {
		t.Errorf("planned %+v", m)
	}
}

func TestHandleForgottenType(t *testing.T) {
	d := New()
	d.Handle("x", HandlerFunc(func(context.Context, Event) error { return nil }))
	_, e := d.Send(t.Context(), &Delivery{Type: "y", Message: Message{Channel: ChannelHandler}})
	if e == nil || e.Kind != Down {
		t.Errorf("got %v, want down", e)
	}
}

type nothing struct{}

func (nothing) Send(context.Context, *Delivery) (Receipt, error) { return Receipt{}, nil }

func TestHandlePanics(t *testing.T) {
	h := HandlerFunc(func(context.Context, Event) error { return nil })
	for _, tt := range []struct {
		name string
		f    func(d *Dispatcher)
	}{
		{"twice", func(d *Dispatcher) { d.Handle("x", h); d.Handle("x", h) }},
		{"a direct event", func(d *Dispatcher) { d.Handle("sms.send", h) }},
		{"no type", func(d *Dispatcher) { d.Handle("", h) }},
		{"no handler", func(d *Dispatcher) { d.Handle("x", nil) }},
		{"another sender", func(d *Dispatcher) { d.Register(ChannelHandler, nothing{}, Policy{}); d.Handle("x", h) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			tt.f(New())
		})
	}
}
