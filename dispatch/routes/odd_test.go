package routes

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
)

// TestNowIsTheDatabases: a condition that reads now has the database's, also
// where nothing else asks the database.
func TestNowIsTheDatabases(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: early
        when: now < date(payload.until)
        log: {text: in time}
      - name: then
        after: [early]
        when: steps.early.ok == "yes" and now < date(payload.until)
        log: {text: in time}
`)
	f := facts()
	f.now = noon.Add(2 * time.Hour)
	ms := plan1(t, r, event("e", fmt.Sprintf(`{"until": %q}`, noon.Add(time.Hour).Format(time.RFC3339))), f, nil)
	if ms[0].Skip != "when: now < date(payload.until)" {
		t.Errorf("%s", told(ms[0]))
	}
	done := map[string]dispatch.StepResult{"early": {State: dispatch.Delivered, Answer: json.RawMessage(`{"ok": "yes"}`)}}
	late, err := r.Render(t.Context(), ms[1], done)
	if err != nil || late.Skip != "when: now < date(payload.until)" {
		t.Errorf("%s, %v", told(late), err)
	}
}

// TestDeadlineHasPassed: what is planned behind its deadline is expired, also
// where it has no time of its own.
func TestDeadlineHasPassed(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: a
        deadline: 1h
        log: {text: hello}
      - name: b
        after: [a]
        deadline: 1h
        log: {text: hello}
`)
	for _, tt := range []struct {
		late time.Duration
		want bool
	}{{59 * time.Minute, false}, {61 * time.Minute, true}} {
		f := facts()
		f.now = noon.Add(tt.late)
		for _, m := range plan1(t, r, event("e", `{}`), f, nil) {
			if (m.Terms.Late != "") != tt.want {
				t.Errorf("after %v: %s", tt.late, told(m))
			}
		}
	}
}

// TestCancelsSeveralKeys: a step may be canceled under several keys, and by the
// route that has it.
func TestCancelsSeveralKeys(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: moved
    deliver:
      - name: reminder
        when: payload.never == true
        log: {text: hello}
    cancels:
      - {steps: [reminder, other], key: payload.from}
      - {steps: [reminder, other], key: payload.to}
      - {steps: [other], key: payload.from}
      - {steps: [other], key: payload.none}
      - {steps: [other], key: payload.none2}
`)
	d := dispatch.New()
	d.Use(NewRouter(r, facts(), nil))
	ms, err := d.Plan(t.Context(), event("moved", `{"from": 1, "to": 2}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		s := m.Step + " " + m.Terms.Supersedes
		if m.Refused != "" {
			s += " " + m.Refused
		}
		got = append(got, s)
	}
	want := []string{
		"reminder ", "reminder 1", "other 1", "reminder 2", "other 2",
		"other  cancels: the key payload.none is no text of up to 200 bytes and no number",
		"other  cancels: the key payload.none2 is no text of up to 200 bytes and no number",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// TestKeysOfNumbers: a number is the same key however it is written, and two
// numbers are never one.
func TestKeysOfNumbers(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    cancels: [{steps: [s], key: payload.id}]
  - name: computed
    event: e
    cancels: [{steps: [s], key: payload.id + 0}]
`)
	for _, tt := range []struct{ id, want, computed string }{
		{"1234567", "1234567", "1234567"},
		{"1234567.0", "1234567", "1234567"},
		{"9007199254740993", "9007199254740993", "9007199254740993"},
		{"12345678901234567890", "12345678901234567890", ""},
		{"12345678901234567891", "12345678901234567891", ""},
		{`"12345678901234567890"`, "12345678901234567890", ""},
	} {
		ms := plan1(t, r, event("e", `{"id": `+tt.id+`}`), facts(), nil)
		if got := ms[0].Terms.Supersedes; got != tt.want {
			t.Errorf("%s: the key is %q", tt.id, got)
		}
		if got := ms[1].Terms.Supersedes; got != tt.computed {
			t.Errorf("%s + 0: the key is %q, %s", tt.id, got, ms[1].Refused)
		}
	}
}

// TestItemsAreExact: the items of a list of the event are what they are there.
func TestItemsAreExact(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: s
        for_each: payload.lines
        log: {text: '{{.item.price}}'}
`)
	ms := plan1(t, r, event("e", `{"lines": [{"price": 1.10}, {"price": 12345678901234567890.10}, {"price": 1e400}]}`), facts(), nil)
	for i, want := range []string{"1.10", "12345678901234567890.10", "1e400"} {
		if i >= len(ms) || string(ms[i].Content) != `{"text":"`+want+`"}` {
			t.Fatalf("%v", ms)
		}
	}
}

// TestNoMoreThanAnEventMayBecome: what an event becomes is held in memory and put
// on record as a whole, and has a bound.
func TestNoMoreThanAnEventMayBecome(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: s
        for_each: payload.list
        log: {text: '{{.payload.text}}'}
      - name: last
        after: [s]
        log: {text: '{{.payload.text}}'}
`)
	var list []int
	for i := range maxItems {
		list = append(list, i)
	}
	items, _ := json.Marshal(list)
	ms := plan1(t, r, event("e", fmt.Sprintf(`{"list": %s, "text": %q}`, items, strings.Repeat("x", 60<<10))), facts(), nil)
	size, refused := 0, 0
	for _, m := range ms {
		size += len(m.Content) + len(m.Terms.Scope)
		if m.Refused == tooMuch {
			refused++
		}
	}
	if len(ms) != maxItems+1 || size > maxContent || refused == 0 || ms[0].Refused != "" {
		t.Errorf("%d messages of %d bytes, %d refused", len(ms), size, refused)
	}
}

// TestExpressionsAreBounded: no payload has an expression take for ever.
func TestExpressionsAreBounded(t *testing.T) {
	t.Parallel()
	with := func(when string) string {
		return "version: 1\nroutes:\n  - name: r\n    event: e\n    when: '" + when + "'\n    deliver: [{name: s, log: {text: x}}]\n"
	}
	for _, tt := range []struct{ when, want string }{
		{`payload.text matches payload.pattern`, "matches takes a pattern in quotes"},
		{`payload.text matches ("a" + payload.pattern)`, "matches takes a pattern in quotes"},
		{`payload.text matches "(x{999}|y{999}|z{999})"`, "the pattern is too large"},
		{`payload.text matches "^[A-Z]{3}$"`, ""},
		{`payload.n in (payload.a ? 1 : 2)..3`, "beside .. are not accepted"},
		{`payload.n in 1..(payload.a ?? 2)`, "beside .. are not accepted"},
		{`payload.n in 1..(payload.a + 2)`, ""},
	} {
		_, err := Load("routes.yaml", []byte(with(tt.when)), Options{})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.when, err)
		}
	}
	many, text := "[0"+strings.Repeat(",0", maxListItems)+"]", strings.Repeat("x", maxListText+1)
	for _, tt := range []struct{ when, payload, want string }{
		{`count(payload.list, # in payload.list) > 5`, `{"list": ` + many + `}`, "payload.list has more than 10000 items"},
		{`all(payload.list, lower(payload.text) contains "y")`, `{"list": [1], "text": "` + text + `"}`, "payload.text is longer than 64 KiB"},
		{`count(payload.list, # == 1) == 1`, `{"list": [1, 2]}`, ""},
		{`len(payload.list) > 5`, `{"list": ` + many + `}`, ""},
	} {
		m := plan1(t, load(t, with(tt.when)), event("e", tt.payload), facts(), nil)[0]
		if tt.want == "" && m.Content == nil || !strings.Contains(m.Refused, tt.want) {
			t.Errorf("%s: %s", tt.when, told(m))
		}
	}
}

// TestRenderByNewerRoutes: what waited under older routes is rendered with what it
// waited for.
func TestRenderByNewerRoutes(t *testing.T) {
	t.Parallel()
	with := func(after, text string) *Routes {
		return load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: a
        log: {text: a}
      - name: b
        log: {text: b}
      - name: s
        after: [`+after+`]
        log: {text: '`+text+`'}
`)
	}
	old := plan1(t, with("a", "{{.payload.x}} {{.steps.a.id}}"), event("e", `{"x": 1}`), facts(), nil)[2]
	done := map[string]dispatch.StepResult{"a": {State: dispatch.Delivered, Answer: json.RawMessage(`{"id": 7}`)}}
	for _, tt := range []struct{ name, after, text, want string }{
		{"the same", "a", "{{.steps.a.id}}", `s log  after a`},
		{"one more", "a, b", "{{.steps.a.id}}", `s log  REFUSED the routes have it wait for the step b, and they did not when it was planned`},
		{"one less", "", "{{.payload.x}}", `s log  after a`},
		{"another", "b", "x", `s log  REFUSED the routes have it wait for the step b, and they did not when it was planned`},
	} {
		m, err := with(tt.after, tt.text).Render(t.Context(), old, done)
		if got := told(m); err != nil || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
}

// TestRepeatableIsOnRecord: a request that may be repeated is so also where it
// waits for another step, whose ledger row is all that later attempts know.
func TestRepeatableIsOnRecord(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    deliver:
      - name: a
        log: {text: a}
      - name: s
        after: [a]
        http: {url: 'https://x.test/{{.steps.a.id}}', json: {a: 1}, idempotency_key: Idempotency-Key}
`)
	if m := plan1(t, r, event("e", `{}`), facts(), nil)[1]; m.Terms.Retry.OnUnknown != dispatch.Resend {
		t.Errorf("on record as %q", m.Terms.Retry.OnUnknown)
	}
}

// stopping is a Writer that the listener is stopped during.
type stopping struct{ cancel context.CancelFunc }

func (s stopping) Write(ctx context.Context, a openai.Ask) map[string]openai.Words {
	s.cancel()
	return noWriter.Write(ctx, a)
}

// TestStoppedWhileAsked: a listener that stops while a model writes does not send
// the templates instead; whoever goes on asks.
func TestStoppedWhileAsked(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    copy:
      instructions: Write.
      fields: {text: {template: hello}}
    deliver: [{name: s, log: {text: '{{.copy.text}}'}}]
`)
	ctx, cancel := context.WithCancel(t.Context())
	ms, err := r.Plan(ctx, event("e", `{}`), facts(), stopping{cancel: cancel})
	if err == nil {
		t.Errorf("planned %v", ms)
	}
}

// aWriter is a Writer with one text for every field.
type aWriter struct{ text string }

func (w aWriter) Write(_ context.Context, a openai.Ask) map[string]openai.Words {
	out := map[string]openai.Words{}
	for _, f := range a.Fields {
		out[f.Name] = openai.Words{Text: w.text}
	}
	return out
}

// TestCopyIsKeptForLater: what a statement or a condition reads of copy is what
// the model wrote, also where the step waits for another one, and the ledger says so.
func TestCopyIsKeptForLater(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    copy:
      instructions: Write.
      fields: {text: {template: '{{.payload.name}}'}, flag: {template: 'no'}}
    deliver:
      - {name: s, log: {text: '{{.copy.text}}'}}
      - {name: now, sql: 'insert into said values (:copy.text)'}
      - {name: then, after: s, sql: 'insert into said values (:copy.text)'}
      - name: if
        after: s
        when: steps.s.none == nil and copy.flag == "ai"
        log: {text: hello}
`)
	ms := plan1(t, r, event("e", `{"name": "Ann"}`), facts(), aWriter{"ai"})
	done := map[string]dispatch.StepResult{"s": {State: dispatch.Delivered}}
	for i, tt := range []struct{ content, copied string }{
		{`{"text":"ai"}`, "text: ai"},
		{`{"statement":"insert into said values ($1)","args":["ai"]}`, "text: ai"},
		{`{"statement":"insert into said values ($1)","args":["ai"]}`, "text: ai"},
		{`{"text":"hello"}`, "flag: ai"},
	} {
		m := ms[i]
		if len(m.Terms.After) > 0 {
			var err error
			if m, err = r.Render(t.Context(), m, done); err != nil {
				t.Fatal(err)
			}
		}
		if string(m.Content) != tt.content || m.Terms.Copy != tt.copied {
			t.Errorf("%s: %s, copy %q", m.Step, told(m), m.Terms.Copy)
		}
	}
}

// TestNamesOfFunctions: a lookup may be called like a function, which is there all
// the same.
func TestNamesOfFunctions(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: r
    event: e
    lookup:
      len: {sql: select 1 as a}
      date: {sql: select 1 as a}
    when: len([1]) == 1 and date.a == 1 and date("2026-01-05T12:00:00Z") <= now
    deliver: [{name: s, when: len.a == 1, log: {text: '{{.len.a}}'}}]
`)
	m := plan1(t, r, event("e", `{}`), facts("len", `[{"a": 1}]`, "date", `[{"a": 1}]`), nil)[0]
	if string(m.Content) != `{"text":"1"}` {
		t.Error(told(m))
	}
}
