package routes

import (
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TestLetOfTheFile: what the file's let makes is there in all routes, and made of
// nothing that only some of them have.
func TestLetOfTheFile(t *testing.T) {
	t.Parallel()
	const file = `version: 1
expose_env: [SITE_URL]
let:
  site: '{{env "SITE_URL" | default "http://localhost"}}'
  page: '{{.site}}/{{.event.type}}'
routes:
  - name: one
    event: a
    deliver:
      - {name: line, log: {text: 'see {{.page}}'}}
  - name: two
    event: b
    let: {link: '{{.page}}?id={{query .payload.id}}'}
    deliver:
      - {name: line, log: {text: '{{.link}}'}}
      - {name: later, after: line, log: {text: '{{.site}} {{.link}}'}}
`
	r := load(t, file)
	for _, tt := range []struct {
		name, typ, payload string
		want               []string
	}{
		{"in a text", "a", `{}`, []string{`line log  {"text":"see https://x.test/a"}`}},
		{"in a let, and kept for later", "b", `{"id": "x y"}`, []string{
			`line log  {"text":"https://x.test/b?id=x%20y"}`,
			`later log  after line {"event":{`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ms := plan1(t, r, event(tt.typ, tt.payload), nil, nil)
			if len(ms) != len(tt.want) {
				t.Fatalf("%d messages, want %d", len(ms), len(tt.want))
			}
			for i, m := range ms {
				if got := told(m); !strings.HasPrefix(got, tt.want[i]) && got != tt.want[i] {
					t.Errorf("%s\nwant %s", got, tt.want[i])
				}
			}
		})
	}
	if scope := string(plan1(t, r, event("b", `{"id": 1}`), nil, nil)[1].Terms.Scope); !strings.Contains(scope, `"site":"https://x.test"`) {
		t.Errorf("what is kept has no site: %s", scope)
	}
	for _, tt := range []struct{ name, from, to, want string }{
		{"a row, which not all routes have", `{{.site}}/`, `{{.visit.id}}/`, `5:12: there is no "visit" here; there are event, payload, site`},
		{"a name that a route gives again", "let: {link:", "let: {page:", `the let cannot be called "page", since there is something of that name already`},
		{"a condition", "    event: a\n", "    event: a\n    when: site != \"\"\n", `when reads site, which let makes afterwards`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load("routes.yaml", []byte(strings.Replace(file, tt.from, tt.to, 1)), Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestLetOfWaitingStatement: a statement that waits for another step has the text
// that let made when the event was planned, whose rows are not kept.
func TestLetOfWaitingStatement(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: a
    event: x
    lookup: {visit: {sql: "select 7 as id where :id"}}
    let: {link: 'https://x.test/{{.visit.id}}'}
    deliver:
      - {name: first, log: {text: hello}}
      - {name: second, after: [first], sql: "insert into t values (:let.link)"}
`)
	ms := plan1(t, r, event("x", `{"id": 1}`), facts("visit", `[{"id": 7}]`), nil)
	m, err := r.Render(t.Context(), ms[1], map[string]dispatch.StepResult{"first": {State: dispatch.Delivered}})
	if want := `{"statement":"insert into t values ($1)","args":["https://x.test/7"]}`; err != nil || string(m.Content) != want {
		t.Errorf("%s, %v; want %s", told(m), err, want)
	}
}
