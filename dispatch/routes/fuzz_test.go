package routes

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// anyFacts answer every lookup with the same rows.
type anyFacts struct{ rows []json.RawMessage }

func (a anyFacts) Read(_ context.Context, f func(Moment) error) error { return f(a) }
func (a anyFacts) Now() time.Time                                     { return noon }
func (a anyFacts) Rows(_ context.Context, _ Lookup, _ map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	return a.rows[:min(len(a.rows), most+1)], nil
}

// FuzzLoad: no file, payload or row makes loading, planning or rendering panic,
// run on or fill the memory, and what is loaded once is loaded again.
func FuzzLoad(f *testing.F) {
	for _, source := range []string{visits, channels} {
		f.Add(source, `{"visitId": 1, "source": "web", "hook": "https://h.test", "n": 1.10, "id": "a", "list": [1, {"k": 2}]}`, visit)
	}
	f.Add("version: 1\nroutes: [{name: a, event: '*', when: 'all(payload.l, # > 1)', deliver: [{name: s, log: {text: '{{range .payload.l}}{{.}}{{end}}'}}]}]",
		`{"l": [1, 2, 3]}`, `[]`)
	f.Fuzz(func(t *testing.T, source, payload, rows string) {
		if len(source) > 16<<10 || len(payload) > 16<<10 || len(rows) > 16<<10 {
			return
		}
		begun := time.Now()
		r, err := Load("routes.yaml", []byte(source), Options{})
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("loading took %v", took)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		var list []json.RawMessage
		if json.Unmarshal([]byte(rows), &list) != nil || !json.Valid([]byte(payload)) {
			return
		}
		types := map[string]bool{"x": true}
		for _, c := range r.list {
			for _, e := range c.events {
				types[e] = true
			}
		}
		for typ := range types {
			begun := time.Now()
			ms, err := r.Plan(t.Context(), event(typ, payload), anyFacts{list}, noWriter)
			if err != nil {
				t.Fatal("planning: ", err)
			}
			for _, m := range ms {
				if m.Skip == "" && m.Refused == "" && m.Terms.Late == "" && (m.Content == nil) == (m.Terms.Scope == nil) {
					t.Fatalf("neither sent nor waiting nor done: %s", told(m))
				}
				if m.Content != nil && !json.Valid(m.Content) {
					t.Fatalf("content %q", m.Content)
				}
				if m.Terms != nil && m.Terms.Scope != nil {
					steps := map[string]dispatch.StepResult{}
					for _, a := range m.Terms.After {
						steps[a] = dispatch.StepResult{State: dispatch.Delivered, Answer: json.RawMessage(`{"text": "x"}`)}
					}
					if _, err := r.Render(t.Context(), m, steps); err != nil {
						t.Fatal("rendering: ", err)
					}
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Fatalf("planning took %v", took)
			}
		}
	})
}
