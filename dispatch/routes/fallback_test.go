package routes

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestFallback: the step that if_undelivered names is planned with the other's time and
// business key where it has none of its own, along a chain of them, and wherever in
// the route it stands.
func TestFallback(t *testing.T) {
	t.Parallel()
	r, err := Load("f", []byte(`
version: 1
routes:
  - name: a
    event: x
    deliver:
      - {name: mail, email: {to: [ann@example.com], subject: s, text: t}, supersedes: payload.mail}
      - {name: call, log: {text: call her}}
      - {name: text, sms: {to: '+12025550123', body: b}, at: payload.at, supersedes: payload.id, if_undelivered: other}
      - {name: other, sms: {to: '+12025550124', body: b}, if_undelivered: mail, deadline: 2h}
      - {name: alone, sms: {to: '+12025550125', body: b}, if_undelivered: call}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2099, 12, 1, 10, 0, 0, 0, time.UTC)
	msgs, err := r.Plan(t.Context(), dispatch.Event{ID: uuid.New(), Type: "x", CreatedAt: time.Now(), Payload: []byte(`{"id": 7, "mail": 8, "at": "2099-12-01T10:00:00Z"}`)}, anyFacts{}, noWriter)
	if err != nil {
		t.Fatal(err)
	}
	type terms struct {
		insteadOf, supersedes string
		optional              bool
		at, deadline          time.Time
	}
	want := map[string]terms{
		"text":  {"", "7", false, at, at.Add(time.Hour)},
		"other": {"text", "7", true, at, at.Add(2 * time.Hour)},
		"mail":  {"other", "8", true, at, time.Time{}},
		"alone": {},
		"call":  {"alone", "", true, time.Time{}, time.Time{}},
	}
	for _, m := range msgs {
		if m.Skip+m.Refused != "" {
			t.Errorf("%s: %s%s", m.Step, m.Skip, m.Refused)
		}
		got := terms{m.Terms.InsteadOf, m.Terms.Supersedes, m.Terms.Optional, m.Terms.At.UTC(), m.Terms.Deadline.UTC()}
		if m.Terms.At.IsZero() {
			got.at = time.Time{}
		}
		if m.Terms.Deadline.IsZero() {
			got.deadline = time.Time{}
		}
		if got != want[m.Step] {
			t.Errorf("%s: %+v; want %+v", m.Step, got, want[m.Step])
		}
	}
	if len(msgs) != len(want) || len(r.Fallbacks()) != 3 || r.Fallbacks()[0] != (Fallback{"a", "other", "text", Place{9, 114}}) {
		t.Errorf("%d messages; %+v", len(msgs), r.Fallbacks())
	}
}
