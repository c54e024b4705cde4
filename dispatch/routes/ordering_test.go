package routes

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestOrderingKey: what a route's deliveries have as their key, and what has none.
func TestOrderingKey(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
routes:
  - name: r
    event: [quote.sent, visit.*]
    let: {about: "quote/{{.payload.id}}"}
    ordering_key: " {{.about}} "
    deliver:
      - name: now
        log: {text: x}
      - name: each
        for_each: payload.list
        log: {text: "{{.item}}"}
      - name: next
        after: [now]
        log: {text: x}
      - name: later
        at: event.created_at + 24h
        log: {text: x}
      - name: text
        sms: {to: "+12025550123", body: x}
        if_undelivered: instead
      - name: instead
        log: {text: x}
  - name: other
    event: z
    deliver:
      - name: s
        log: {text: x}
`)
	if want := []string{"quote.sent", "visit.*"}; !slices.Equal(r.ordered, want) {
		t.Errorf("types in order are %v, want %v", r.ordered, want)
	}
	for _, tt := range []struct {
		name, id, want, refused string
	}{
		{"a text", `"7a"`, "quote/7a", ""},
		{"a number", `9007199254740993`, "quote/9007199254740993", ""},
		{"null is a key as well as another, where it is part of one", `null`, "quote/", ""},
		{"too long", `"` + strings.Repeat("x", 200) + `"`, "", "ordering_key: it has to be a text of 1 to 200 bytes, and has 206"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msgs, err := r.Plan(t.Context(), dispatch.Event{ID: uuid.New(), Type: "visit.moved", CreatedAt: noon,
				Payload: []byte(`{"id": ` + tt.id + `, "list": [1, 2]}`)}, facts(), noWriter)
			if err != nil || len(msgs) < 4 {
				t.Fatalf("%d messages, %v", len(msgs), err)
			}
			for _, m := range msgs {
				want, refused := tt.want, tt.refused
				if m.Step == "later" || m.Step == "instead" {
					want, refused = "", ""
				}
				if m.Terms.Ordering != want || m.Refused != refused {
					t.Errorf("%s: key %q, refused %q; want %q, %q", m.Step, m.Terms.Ordering, m.Refused, want, refused)
				}
			}
		})
	}
}

// TestOrderingKeyThatIsEmpty is refused: nobody knows what it is to come after.
func TestOrderingKeyThatIsEmpty(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
routes:
  - name: r
    event: a
    ordering_key: "{{.payload.id}}"
    deliver:
      - name: s
        log: {text: x}
`)
	for _, payload := range []string{`{"id": null}`, `{"id": " "}`, `{}`} {
		msgs, err := r.Plan(t.Context(), dispatch.Event{ID: uuid.New(), Type: "a", CreatedAt: noon, Payload: []byte(payload)}, facts(), noWriter)
		if err != nil || len(msgs) != 1 || !strings.Contains(msgs[0].Refused, "ordering_key: ") {
			t.Errorf("%s: %+v, %v", payload, msgs, err)
		}
	}
}
