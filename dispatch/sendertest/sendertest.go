// Package sendertest is the suite that every dispatch.Sender must pass. It
// knows no protocol: the sender's own test brings a server on a loopback
// address and the functions that script it.
package sendertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Suite describes one sender and the server that it talks to.
type Suite struct {
	Channel dispatch.Channel

	// New returns a sender pointed at the scripted server. It is called once
	// for each subtest.
	New func(t *testing.T) dispatch.Sender

	// Delivery returns a sample delivery under a new ID; see NewDelivery.
	Delivery func() *dispatch.Delivery

	Accept func() // scripts the server to take everything
	Hang   func() // scripts it to take the request and never answer
	Flood  func() // scripts it to answer with far too many bytes; nil where a reply has no length

	Taken func() int // how many the server took so far; nil where it cannot say

	Cases []Case

	// Secrets are texts that no error may contain, in any encoding: the
	// credentials in use. The delivery's recipient is added to them.
	Secrets []string
}

// Case is one behavior of the server and how it is to be understood.
type Case struct {
	Name     string
	Prepare  func()             // scripts the server
	Delivery *dispatch.Delivery // what to send; nil means Suite.Delivery

	Kind       dispatch.Kind // "" means that the delivery is taken
	Status     int
	Code       string        // compared where it is not ""
	RetryAfter time.Duration // compared to within two seconds
}

// prompt is how soon Send must return once it has no reason to go on.
const prompt = time.Second

// NewDelivery returns a delivery of content under new IDs, as a direct event
// would have it.
func NewDelivery(ch dispatch.Channel, recipient string, content any) *dispatch.Delivery {
	raw, err := json.Marshal(content)
	if err != nil {
		panic(err)
	}
	return &dispatch.Delivery{
		ID:      uuid.New(),
		EventID: uuid.New(),
		Type:    string(ch) + ".send",
		Date:    time.Date(2025, 7, 1, 12, 0, 0, 0, time.UTC),
		Attempt: 1,
		Message: dispatch.Message{
			Route: "direct", Step: string(ch), Channel: ch, Recipient: recipient, Content: raw,
		},
	}
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("taken", s.taken)
	for _, c := range s.Cases {
		t.Run(c.Name, func(t *testing.T) { s.one(t, c) })
	}
	t.Run("canceled before it began", s.canceledBefore)
	t.Run("canceled while waiting", s.canceledWaiting)
	t.Run("deadline while waiting", s.deadline)
	t.Run("not ours any more", s.late)
	t.Run("eight at once", s.concurrent)
	t.Run("content that is not for this channel", s.wrongContent)
	if s.Flood != nil {
		t.Run("endless reply", s.flood)
	}
}

// taken sends the same delivery twice, as happens after a lost record.
func (s Suite) taken(t *testing.T) {
	s.Accept()
	sender, d := s.New(t), s.Delivery()
	before := clone(d)
	for n := range 2 {
		r, err := send(t, sender, d, 10*time.Second)
		if err != nil {
			t.Fatalf("send %d: %v", n+1, err)
		}
		if s.hasStatus() && r.Status == 0 {
			t.Errorf("send %d: the receipt has no status: %+v", n+1, r)
		}
	}
	if !reflect.DeepEqual(d, before) {
		t.Error("Send changed the delivery; it must look the same on each attempt")
	}
}

// late sends what is somebody else's by the time that a connection is there, on a new
// one and on one that was kept: nothing leaves, and the next delivery does.
func (s Suite) late(t *testing.T) {
	s.Accept()
	sender := s.New(t)
	taken := func() int {
		if s.Taken == nil {
			return 0
		}
		return s.Taken()
	}
	for _, connection := range []string{"a new", "a kept"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		asked, before, d := 0, taken(), s.Delivery()
		_, err := sender.Send(dispatch.WithOurs(ctx, func() bool { asked++; return false }), d)
		cancel()
		if e := s.check(t, d, err); e.Kind != dispatch.Down || !errors.Is(e, dispatch.ErrLate) || asked == 0 {
			t.Errorf("%s connection: %v (%s), asked %d times; want %q", connection, e, e.Kind, asked, dispatch.ErrLate)
		}
		if n := taken() - before; n != 0 {
			t.Errorf("%s connection: the server took %d", connection, n)
		}
		if _, err := send(t, sender, s.Delivery(), 10*time.Second); err != nil {
			t.Errorf("the next one after %s connection: %v", connection, err)
		}
		if n := taken() - before; s.Taken != nil && n != 1 {
			t.Errorf("%s connection: the server took %d, want the next one alone", connection, n)
		}
	}
}

// hasStatus reports whether the suite's server speaks in reply codes.
func (s Suite) hasStatus() bool {
	for _, c := range s.Cases {
		if c.Status != 0 {
			return true
		}
	}
	return false
}

func (s Suite) one(t *testing.T, c Case) {
	d := c.Delivery
	if d == nil {
		d = s.Delivery()
	}
	sender := s.New(t)
	c.Prepare()
	r, err := send(t, sender, d, 10*time.Second)
	if c.Kind == "" {
		if err != nil {
			t.Fatalf("Send: %v; want it taken", err)
		}
		if r.Status != c.Status {
			t.Errorf("receipt status = %d, want %d", r.Status, c.Status)
		}
		return
	}
	e := s.check(t, d, err)
	if e.Kind != c.Kind || e.Status != c.Status {
		t.Errorf("Send = %s, status %d; want %s, status %d (%v)", e.Kind, e.Status, c.Kind, c.Status, e)
	}
	if c.Code != "" && e.Code != c.Code {
		t.Errorf("code = %q, want %q", e.Code, c.Code)
	}
	if off := e.RetryAfter - c.RetryAfter; off < -2*time.Second || off > 2*time.Second {
		t.Errorf("RetryAfter = %s, want %s", e.RetryAfter, c.RetryAfter)
	}
}

// check returns err as the *dispatch.Error that it must be, after a look at
// everything that holds for all of them.
func (s Suite) check(t *testing.T, d *dispatch.Delivery, err error) *dispatch.Error {
	t.Helper()
	if err == nil {
		t.Fatal("Send reported the delivery as taken")
	}
	e, ok := errors.AsType[*dispatch.Error](err)
	if !ok {
		t.Fatalf("Send returned a %T, not a *dispatch.Error: %v", err, err)
	}
	if e.Channel != s.Channel {
		t.Errorf("error of channel %q, want %q", e.Channel, s.Channel)
	}
	switch e.Kind {
	case dispatch.Rejected, dispatch.Throttled, dispatch.Down, dispatch.Unknown:
	default:
		t.Errorf("kind %q is none of the four", e.Kind)
	}
	if e.RetryAfter < 0 || e.RetryAfter > dispatch.MaxRetryAfter {
		t.Errorf("RetryAfter = %s, out of range", e.RetryAfter)
	}
	text := fmt.Sprintf("%s|%v|%+v", err, e, e)
	if len(text) > 6<<10 {
		t.Errorf("error text of %d bytes", len(text))
	}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		t.Errorf("control character in error text %q", text)
	}
	for _, secret := range append([]string{d.Recipient}, s.Secrets...) {
		for _, form := range encodings(secret) {
			if form != "" && strings.Contains(text, form) {
				t.Errorf("error text has %q in it: %s", form, text)
			}
		}
	}
	return e
}

// encodings returns the ways in which a secret may leak.
func encodings(s string) []string {
	return []string{
		s,
		url.QueryEscape(s),
		url.PathEscape(s),
		base64.StdEncoding.EncodeToString([]byte(s)),
		base64.URLEncoding.EncodeToString([]byte(s)),
	}
}

func (s Suite) canceledBefore(t *testing.T) {
	s.Accept()
	sender, d := s.New(t), s.Delivery()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	_, err := sender.Send(ctx, d)
	if took := time.Since(start); took > prompt {
		t.Errorf("returned after %s", took)
	}
	if e := s.check(t, d, err); e.Kind != dispatch.Down {
		t.Errorf("kind = %s, want down: nothing left", e.Kind)
	}
}

func (s Suite) canceledWaiting(t *testing.T) {
	s.Hang()
	sender, d := s.New(t), s.Delivery()
	ctx, cancel := context.WithCancel(t.Context())
	var canceled time.Time
	timer := time.AfterFunc(100*time.Millisecond, func() {
		canceled = time.Now()
		cancel()
	})
	defer timer.Stop()
	defer cancel()
	_, err := sender.Send(ctx, d)
	<-ctx.Done()
	if took := time.Since(canceled); took > prompt {
		t.Errorf("returned %s after it was canceled", took)
	}
	s.interrupted(t, s.check(t, d, err))
}

func (s Suite) deadline(t *testing.T) {
	s.Hang()
	sender, d := s.New(t), s.Delivery()
	const limit = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	_, err := sender.Send(ctx, d)
	if took := time.Since(start); took > limit+prompt {
		t.Errorf("returned after %s", took)
	}
	s.interrupted(t, s.check(t, d, err))
}

func (s Suite) interrupted(t *testing.T, e *dispatch.Error) {
	t.Helper()
	if e.Kind != dispatch.Unknown && e.Kind != dispatch.Down {
		t.Errorf("kind = %s, want unknown or down", e.Kind)
	}
}

// concurrent is there for the race detector.
func (s Suite) concurrent(t *testing.T) {
	s.Accept()
	sender := s.New(t)
	var wg sync.WaitGroup
	for range 8 {
		d := s.Delivery()
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := sender.Send(ctx, d); err != nil {
				t.Errorf("Send: %v", err)
			}
		})
	}
	wg.Wait()
}

// wrongContent tries what a ledger from another version may hold.
func (s Suite) wrongContent(t *testing.T) {
	s.Accept()
	sender := s.New(t)
	for _, content := range []string{``, `null`, `{}`, `[]`, `7`, `"x"`, `{"to":7,"url":7,"body":7}`, `{`} {
		d := s.Delivery()
		d.Content = json.RawMessage(content)
		_, err := send(t, sender, d, 10*time.Second)
		if e := s.check(t, d, err); e.Kind != dispatch.Rejected {
			t.Errorf("content %q: kind = %s, want rejected", content, e.Kind)
		}
	}
}

// flood checks time and memory, not what comes of it.
func (s Suite) flood(t *testing.T) {
	s.Flood()
	sender, d := s.New(t), s.Delivery()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	_, err := send(t, sender, d, 10*time.Second)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("returned after %s", took)
	}
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 16 {
		t.Errorf("allocated %d MB", mb)
	}
	if err != nil {
		s.check(t, d, err)
	}
}

func send(t *testing.T, s dispatch.Sender, d *dispatch.Delivery, limit time.Duration) (dispatch.Receipt, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return s.Send(ctx, d)
}

func clone(d *dispatch.Delivery) *dispatch.Delivery {
	c := *d
	c.Content = append(json.RawMessage(nil), d.Content...)
	return &c
}
