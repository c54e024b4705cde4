package routes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
)

var noon = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// canned are rows by lookup.
type canned struct {
	now  time.Time
	rows map[string]string // JSON lists
	err  error
	asks map[string]map[string]json.RawMessage
}

func (c *canned) Read(_ context.Context, f func(Moment) error) error { return f(c) }
func (c *canned) Now() time.Time                                     { return c.now }
func (c *canned) Rows(_ context.Context, l Lookup, args map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	if c.err != nil {
		return nil, c.err
	}
	c.asks[l.Name] = args
	var out []json.RawMessage
	if err := json.Unmarshal([]byte(c.rows[l.Name]), &out); err != nil {
		return nil, fmt.Errorf("no rows for %s: %w", l.Name, err)
	}
	return out[:min(len(out), most+1)], nil
}

func facts(rows ...string) *canned {
	c := &canned{now: noon, rows: map[string]string{}, asks: map[string]map[string]json.RawMessage{}}
	for i := 0; i < len(rows); i += 2 {
		c.rows[rows[i]] = rows[i+1]
	}
	return c
}

func load(t *testing.T, source string) *Routes {
	t.Helper()
	r, err := Load("routes.yaml", []byte(source), Options{Env: func(name string) (string, bool) {
		v, ok := map[string]string{"SITE_URL": "https://x.test", "ALERTS": "a@x.test, b@x.test,,a@x.test"}[name]
		return v, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func event(typ, payload string) dispatch.Event {
	return dispatch.Event{ID: uuid.MustParse("00000000-0000-4000-8000-000000000001"), Type: typ, Payload: json.RawMessage(payload), CreatedAt: noon}
}

func plan1(t *testing.T, r *Routes, ev dispatch.Event, f Facts, w Writer) []dispatch.Message {
	t.Helper()
	if w == nil {
		w = noWriter
	}
	ms, err := r.Plan(t.Context(), ev, f, w)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// told is m in a line.
func told(m dispatch.Message) string {
	s := m.Step + " " + string(m.Channel) + " " + m.Recipient
	switch {
	case m.Skip != "":
		return s + " SKIP " + m.Skip
	case m.Refused != "":
		return s + " REFUSED " + m.Refused
	}
	if t := m.Terms; t != nil {
		if !t.At.IsZero() {
			s += " at " + t.At.UTC().Format("02T15:04")
		}
		if !t.Deadline.IsZero() {
			s += " until " + t.Deadline.UTC().Format("02T15:04")
		}
		if t.Late != "" {
			return s + " LATE"
		}
		if t.Supersedes != "" {
			s += " key " + t.Supersedes
		}
		if len(t.After) > 0 {
			return s + " after " + strings.Join(t.After, ",") + " " + string(t.Scope)
		}
	}
	return s + " " + string(m.Content)
}

const visits = `version: 1
expose_env: [SITE_URL, ALERTS]
defaults: {timezone: America/New_York, region: US}
routes:
  - name: booked
    event: visit.booked
    lookup:
      visit:
        sql: select id, start_at, name, phone, email, minutes from visits where id = :visitId
      notes:
        sql: select body from notes where visit = :visit.id and kind = :kind?
        rows: many
    when: visit.name != "nobody" and (payload.source == "web" or visit.minutes > 30)
    let:
      link: '{{env "SITE_URL"}}/v?id={{query .visit.id}}'
    deliver:
      - name: text
        when: visit.phone != nil
        sms: {to: '{{phone .visit.phone}}', body: 'Hi {{.visit.name}}: {{datetime .visit.start_at}} {{.link}}'}
      - name: mail
        email:
          to: ['{{.visit.email}}']
          subject: Your visit
          text: |
            {{range .notes}}- {{.body}}
            {{end}}
      - name: reminder
        at: visit.start_at - 24h
        deadline: 2h
        supersedes: visit.id
        sms: {to: '{{phone .visit.phone}}', body: 'Tomorrow {{time .visit.start_at}}'}
      - name: alert
        for_each: split(env("ALERTS"), ",")
        required: false
        email: {to: '{{.item}}', subject: Booked, text: '{{.link}}'}
`

const visit = `[{"id": 7, "start_at": "2026-01-08T20:30:00+00:00", "name": "Ann", "phone": "(212) 555-0123", "email": "ann@x.test", "minutes": 60}]`

func TestPlan(t *testing.T) {
	t.Parallel()
	r := load(t, visits)
	change := func(from, to string) string {
		if !strings.Contains(visit, from) {
			t.Fatalf("no %s", from)
		}
		return strings.Replace(visit, from, to, 1)
	}
	booked := `{"visitId": "v1", "source": "web"}`
	for _, tt := range []struct {
		name, payload, visit string
		want                 []string // the beginnings
	}{
		{"all of it", booked, visit, []string{
			`text sms +12125550123 {"to":"+12125550123","body":"Hi Ann: January 8, 2026, 3:30 PM https://x.test/v?id=7"}`,
			`mail email ann@x.test {"to":["ann@x.test"],"subject":"Your visit","text":"- first\n- second\n\n"}`,
			`reminder sms +12125550123 at 07T20:30 until 07T22:30 key 7 {"to":"+12125550123","body":"Tomorrow 3:30 PM"}`,
			`alert email a@x.test {"to":["a@x.test"],"subject":"Booked","text":"https://x.test/v?id=7"}`,
			`alert email b@x.test {`,
		}},
		{"a missing key", `{}`, visit, []string{
			`text sms  SKIP the payload has no "visitId"`, `mail email  SKIP the`, `reminder sms  SKIP the`, `alert email  SKIP the`}},
		{"a null key", `{"visitId": null}`, visit, []string{
			`text sms  SKIP the payload has no "visitId"`, `mail email  SKIP the`, `reminder sms  SKIP the`, `alert email  SKIP the`}},
		{"no object", `[1]`, visit, []string{
			`text sms  SKIP the payload has no "visitId"`, `mail email  SKIP the`, `reminder sms  SKIP the`, `alert email  SKIP the`}},
		{"a missing row", booked, `[]`, []string{
			`text sms  SKIP lookup visit found no row`, `mail`, `reminder`, `alert`}},
		{"two rows", booked, `[{"id": 1}, {"id": 2}]`, []string{
			`text sms  REFUSED lookup visit: it found more than one row`, `mail`, `reminder`, `alert`}},
		{"false", booked, change(`"Ann"`, `"nobody"`), []string{
			`text sms  SKIP when: visit.name != "nobody"`, `mail`, `reminder`, `alert`}},
		{"false in both", `{"visitId": 1}`, change("60", "10"), []string{
			`text sms  SKIP when: payload.source == "web", visit.minutes > 30`, `mail`, `reminder`, `alert`}},
		{"unknown and true", `{"visitId": 1}`, visit, []string{`text sms +1`, `mail`, `reminder`, `alert`, `alert`}},
		{"unknown", `{"visitId": 1}`, change("60", "null"), []string{
			`text sms  SKIP when: payload.source == "web", visit.minutes > 30 (visit.minutes is missing or null)`, `mail`, `reminder`, `alert`}},
		{"a column that the row does not have", `{"visitId": 1}`, change(`"minutes"`, `"min"`), []string{
			`text sms  REFUSED when: visit.minutes > 30: the row of visit has no column "minutes"`, `mail`, `reminder`, `alert`}},
		{"null phone", booked, change(`"(212) 555-0123"`, "null"), []string{
			`text sms  SKIP when: visit.phone != nil`, `mail email ann@x.test`, `reminder sms  SKIP nobody to send to: to is empty`, `alert`, `alert`}},
		{"a bad phone", booked, change(`(212) 555-0123`, "none"), []string{
			`text sms  REFUSED to: `, `mail email ann@x.test`, `reminder sms  REFUSED to: `, `alert`, `alert`}},
		{"null e-mail", booked, change(`"ann@x.test"`, "null"), []string{
			`text sms +1`, `mail email  SKIP nobody to send to: to is empty`, `reminder`, `alert`, `alert`}},
		{"no time", booked, change(`"2026-01-08T20:30:00+00:00"`, "null"), []string{
			`text sms +12125550123 {"to":"+12125550123","body":"Hi Ann:  https`, `mail`, `reminder sms  SKIP at: visit.start_at is missing or null`, `alert`, `alert`}},
		{"within the deadline", booked, change("01-08T20:30", "01-06T10:30"), []string{
			`text`, `mail`, `reminder sms +12125550123 until 05T12:30 key 7 {`, `alert`, `alert`}},
		{"too late", booked, change("01-08T20:30", "01-06T09:30"), []string{
			`text`, `mail`, `reminder sms  until 05T11:30 LATE`, `alert`, `alert`}},
		{"a long text", booked, change("Ann", strings.Repeat("A", 2000)), []string{
			`text sms +12125550123 REFUSED the key "body" `, `mail`, `reminder`, `alert`, `alert`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := facts("visit", tt.visit, "notes", `[{"body": "first"}, {"body": "second"}]`)
			ms := plan1(t, r, event("visit.booked", tt.payload), f, nil)
			if len(ms) != len(tt.want) {
				t.Errorf("%d messages, want %d", len(ms), len(tt.want))
			}
			for i, m := range ms {
				if i < len(tt.want) && !strings.HasPrefix(told(m), tt.want[i]) {
					t.Errorf("got  %s\nwant %s", told(m), tt.want[i])
				}
				if m.Route != "booked" || m.Terms == nil || !m.Terms.Freeze || m.Terms.Optional != (m.Step == "alert") {
					t.Errorf("route %q, terms %+v", m.Route, m.Terms)
				}
			}
		})
	}
}

// TestPlanAsks: parameters come from the payload and from earlier lookups; a
// route whose condition needs no rows asks for none where it is false.
func TestPlanAsks(t *testing.T) {
	t.Parallel()
	f := facts("visit", visit, "notes", `[]`)
	plan1(t, load(t, visits), event("visit.booked", `{"visitId": "v1", "source": "web"}`), f, nil)
	if got := fmt.Sprintf("%s %s %d", f.asks["visit"]["visitId"], f.asks["notes"]["visit.id"], len(f.asks["notes"])); got != `"v1" 7 1` {
		t.Errorf("asked with %s", got)
	}
	r := load(t, `version: 1
routes:
  - name: a
    event: "*"
    lookup: {visit: {sql: "select 1 as id where :x"}}
    when: payload.go == true
    deliver: [{name: s, log: {text: '{{.visit.id}}'}}]
`)
	f = facts()
	f.err = errors.New("down")
	ms := plan1(t, r, event("any", `{"go": false}`), f, nil)
	if len(ms) != 1 || told(ms[0]) != "s log  SKIP when: payload.go == true" {
		t.Errorf("%v", ms)
	}
	if _, err := r.Plan(t.Context(), event("any", `{"go": true, "x": true}`), f, noWriter); err == nil || !strings.Contains(err.Error(), "route a, lookup visit: down") {
		t.Errorf("a fault of the database: %v", err)
	}
	f.err = &query.BadValue{Reason: "invalid input"}
	ms = plan1(t, r, event("any", `{"go": true, "x": 5}`), f, nil)
	if len(ms) != 1 || told(ms[0]) != "s log  REFUSED lookup visit: a value does not suit the query: invalid input" {
		t.Errorf("%v", ms)
	}
}

// TestPlanMatches: types match exactly or by their beginning, and all routes that
// match count.
func TestPlanMatches(t *testing.T) {
	t.Parallel()
	const one = "  - {name: %s, event: %s, deliver: [{name: s, log: {text: x}}]}\n"
	r := load(t, "version: 1\nroutes:\n"+fmt.Sprintf(one, "exact", "quote.sent")+fmt.Sprintf(one, "some", "quote.*")+fmt.Sprintf(one, "two", "[a, quote.sent]"))
	for typ, want := range map[string]string{
		"quote.sent": "exact some two", "quote.": "some", "quote": "", "quotes.sent": "", "quote.sent.x": "some", "a": "two", "Quote.sent": "",
	} {
		var got []string
		for _, m := range plan1(t, r, event(typ, "{}"), facts(), nil) {
			got = append(got, m.Route)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", typ, got, want)
		}
	}
}

const channels = `version: 1
expose_env: [SITE_URL]
credentials:
  api: {bearer: API_TOKEN, hosts: [api.test]}
routes:
  - name: all
    event: x
    deliver:
      - name: hook
        webhook: {url: '{{.payload.hook}}'}
      - name: hook-json
        webhook: {url: '{{.payload.hook}}', json: {a: '{{.payload.n}}', b: '{{json .payload.n}}', c: [1, true, null, x<y]}}
      - name: ask
        http:
          url: https://api.test/{{url .payload.id}}
          credential: api
          json: {id: '{{.payload.id}}'}
          idempotency_key: Idempotency-Key
          save: {number: data.number}
      - name: form
        on_uncertain: hold
        http: {method: PUT, url: 'https://api.test/', form: {a: '{{.payload.id}}', b: '', c: '&'}}
      - name: get
        http: {url: 'https://api.test/?q={{query .payload.id}}'}
      - name: write
        sql: insert into t values (:id, :payload.deep.x?, :event.type, :nothing?)
      - name: summary
        openai: {instructions: Sum up., input: '{{json .payload}}', fields: {short: 80}}
      - name: store
        after: [summary, ask]
        sql: update t set s = :steps.summary.short, n = :steps.ask.number where id = :id
      - name: line
        log: {text: 'id {{.payload.id}}'}
      - name: each
        for_each: payload.list
        http: {method: POST, url: 'https://api.test/', body: '{{.item.k}}'}
`

func TestPlanChannels(t *testing.T) {
	t.Parallel()
	r := load(t, channels)
	payload := `{"hook": "https://hook.test/a", "n": 1.10, "id": "ä/1", "list": [{"k": 1}, {"k": 2}, {"k": 1}, null]}`
	ms := plan1(t, r, event("x", payload), facts(), nil)
	want := []string{
		`hook webhook https://hook.test/a {"url":"https://hook.test/a","body":"{\"type\":\"x\",\"timestamp\":\"2026-01-05T12:00:00Z\",\"data\":{\"hook\":`,
		`hook-json webhook https://hook.test/a {"url":"https://hook.test/a","body":"{\"a\":\"1.10\",\"b\":1.10,\"c\":[1,true,null,\"x\u003cy\"]}"}`,
		`ask http https://api.test/%C3%A4%2F1 {"method":"POST","url":"https://api.test/%C3%A4%2F1","headers":{"Content-Type":"application/json"},"body":"{\"id\":\"ä/1\"}","credential":"api","idempotency_key":"Idempotency-Key","save":{"number":"data.number"}}`,
		`form http https://api.test/ {"method":"PUT","url":"https://api.test/","headers":{"Content-Type":"application/x-www-form-urlencoded"},"body":"a=%C3%A4%2F1\u0026c=%26"}`,
		`get http https://api.test/?q=%C3%A4%2F1 {"method":"GET"`,
		`write sql  {"statement":"insert into t values ($1, $2, $3, $4)","args":["ä/1",null,"x",null]}`,
		`summary openai  {"instructions":"Sum up.","input":"{`,
		`store sql  after summary,ask {"event":{"created_at":"2026-01-05T12:00:00Z","id":"00000000-0000-4000-8000-000000000001","type":"x"},"payload":{`,
		`line log  {"text":"id ä/1"}`,
		`each http https://api.test/ {"method":"POST","url":"https://api.test/","body":"1"}`,
		`each http https://api.test/ {"method":"POST","url":"https://api.test/","body":"2"}`,
	}
	if len(ms) != len(want) {
		t.Fatalf("%d messages, want %d", len(ms), len(want))
	}
	for i, m := range ms {
		if !strings.HasPrefix(told(m), want[i]) {
			t.Errorf("got  %s\nwant %s", told(m), want[i])
		}
		unknown := map[string]dispatch.OnUnknown{"ask": dispatch.Resend, "form": dispatch.Hold, "get": dispatch.Resend}[m.Step]
		if m.Terms.Retry.OnUnknown != unknown {
			t.Errorf("%s: of unknown outcome %q, want %q", m.Step, m.Terms.Retry.OnUnknown, unknown)
		}
	}

	store := ms[slices.IndexFunc(ms, func(m dispatch.Message) bool { return m.Step == "store" })]
	answers := map[string]dispatch.StepResult{
		"summary": {State: dispatch.Delivered, Answer: json.RawMessage(`{"short": "brief"}`)},
		"ask":     {State: dispatch.Delivered, Answer: json.RawMessage(`{"number": null}`)},
	}
	m, err := r.Render(t.Context(), store, answers)
	if want := `{"statement":"update t set s = $1, n = $2 where id = $3","args":["brief",null,"ä/1"]}`; err != nil || string(m.Content) != want {
		t.Errorf("rendered %s %s, %v; want %s", told(m), m.Content, err, want)
	}
	answers["ask"] = dispatch.StepResult{State: dispatch.Dead}
	if m, err := r.Render(t.Context(), store, answers); err != nil || m.Skip != "the step ask before it was not delivered (dead)" {
		t.Errorf("after a dead step: %s, %v", told(m), err)
	}
	delete(answers, "summary") // one of which nothing is known, and one that was not delivered
	if m, err := r.Render(t.Context(), store, answers); err != nil || m.Skip != "the step ask before it was not delivered (dead)" {
		t.Errorf("after a dead step and another one: %s, %v", told(m), err)
	}
	// It was planned by a file in which it waited for less.
	answers["ask"] = dispatch.StepResult{State: dispatch.Delivered, Answer: json.RawMessage(`{"number": 1}`)}
	if m, err := r.Render(t.Context(), store, answers); err != nil || m.Skip != "" || !strings.Contains(m.Refused, "wait for the step summary, and they did not when it was planned") {
		t.Errorf("after a step that was not planned: %s, %v", told(m), err)
	}
	gone := store
	gone.Step = "older"
	if m, err := r.Render(t.Context(), gone, answers); err != nil || !strings.Contains(m.Refused, `no step "older"`) {
		t.Errorf("a step that is gone: %s, %v", told(m), err)
	}
}

// pen is a Writer that answers as told.
type pen struct {
	words map[string]openai.Words
	asked []openai.Ask
}

func (p *pen) Write(_ context.Context, a openai.Ask) map[string]openai.Words {
	p.asked = append(p.asked, a)
	return p.words
}

func TestPlanCopy(t *testing.T) {
	t.Parallel()
	const source = `version: 1
routes:
  - name: quote
    event: quote.sent
    copy:
      instructions: Friendly.
      facts: {name: '{{.payload.name}}', link: '{{.payload.link}}'}
      budget: 3s
      fields:
        sms: {max_chars: 50, must_contain: ['{{.payload.link}}'], template: 'Quote {{.payload.link}}'}
        subject: {template: 'Your quote, {{.payload.name}}'}
        unused: {template: '{{.payload.nothing}}'}
    deliver:
      - name: text
        sms: {to: '{{.payload.phone}}', body: '{{.copy.sms}}'}
      - name: mail
        email: {to: '{{.payload.mail}}', subject: '{{.copy.subject}}', text: '{{.copy.sms}}'}
      - name: plain
        log: {text: hello}
`
	r := load(t, source)
	p := &pen{words: map[string]openai.Words{"sms": {Text: "See https://l"}, "subject": {Fallback: "too long"}, "unused": {Fallback: "too long"}}}
	ms := plan1(t, r, event("quote.sent", `{"name": "Ann", "link": "https://l", "phone": "+12125550123", "mail": "ann@x.test"}`), facts(), p)
	want := [][2]string{
		{`text sms +12125550123 {"to":"+12125550123","body":"See https://l"}`, "sms: ai"},
		{`mail email ann@x.test {"to":["ann@x.test"],"subject":"Your quote, Ann","text":"See https://l"}`, "sms: ai, subject: fallback (too long)"},
		{`plain log  {"text":"hello"}`, ""},
	}
	for i, m := range ms {
		if told(m) != want[i][0] || m.Terms.Copy != want[i][1] {
			t.Errorf("got %s, copy %q; want %s", told(m), m.Terms.Copy, want[i])
		}
	}
	if len(p.asked) != 1 {
		t.Fatalf("asked %d times", len(p.asked))
	}
	a := p.asked[0]
	if a.Budget != 3*time.Second || len(a.Facts) != 2 || a.Facts[1] != (openai.Fact{Name: "link", Value: "https://l"}) ||
		!slices.Equal(a.Fields[0].MustContain, []string{"https://l"}) || a.Fields[0].MaxChars != 50 || !a.Fields[1].SingleLine || a.Fields[0].SingleLine {
		t.Errorf("asked %+v", a)
	}

	p.asked = nil
	for _, m := range plan1(t, r, event("quote.sent", `{"name": "Ann", "link": "l", "phone": "", "mail": null}`), facts(), p)[:2] {
		if m.Skip == "" || m.Terms.Copy != "" {
			t.Errorf("%s, copy %q", told(m), m.Terms.Copy)
		}
	}
	if len(p.asked) != 0 {
		t.Error("asked for what nobody gets")
	}

	for _, m := range plan1(t, r, event("quote.sent", `{"link": "l", "phone": "+12125550123", "mail": "ann@x.test"}`), facts(), p)[:1] {
		if m.Refused != "" || !strings.HasPrefix(m.Terms.Copy, "sms: fallback (fact name: ") || !strings.Contains(string(m.Content), `"body":"Quote l"`) {
			t.Errorf("a fact that is missing: %s, copy %q", told(m), m.Terms.Copy)
		}
	}
}

func TestPlanInvite(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: booked
    event: booked
    deliver:
      - name: mail
        email:
          to: Ann <ann@x.test>
          subject: S
          text: T
          invite:
            uid: '{{.payload.id}}@x.test'
            sequence: '{{.payload.revision}}'
            start: payload.start
            duration: '{{.payload.minutes}}m'
            summary: Visit
            organizer: {name: Myst, address: Team <team@x.test>}
`)
	invite := func(payload string) (dispatch.Email, string) {
		m := plan1(t, r, event("booked", payload), facts(), nil)[0]
		if m.Refused != "" {
			return dispatch.Email{}, m.Refused
		}
		e, err := dispatch.ReadContent[dispatch.Email](&m)
		if err != nil {
			t.Fatal(err, told(m))
		}
		return e, ""
	}
	e, refused := invite(`{"id": 1, "revision": 3, "start": "2026-01-08T15:30:00-05:00", "minutes": 90}`)
	if e.Invite == nil || e.Invite.Method != "REQUEST" {
		t.Fatal("no invitation", refused)
	}
	for _, line := range []string{"UID:1@x.test", "SEQUENCE:3", "DTSTART:20260108T203000Z", "DTEND:20260108T220000Z", "mailto:ann@x.test", "mailto:team@x.test", "DTSTAMP:20260105T120000Z"} {
		if !strings.Contains(strings.ReplaceAll(e.Invite.Calendar, "\r\n ", ""), line) {
			t.Errorf("no %s in\n%s", line, e.Invite.Calendar)
		}
	}
	if e, _ := invite(`{"id": 1, "revision": 3, "start": null, "minutes": 90}`); e.Invite != nil || e.Subject != "S" {
		t.Errorf("without a start: %+v", e)
	}
	if _, refused := invite(`{"id": 1, "revision": "x", "start": "2026-01-08T15:30:00-05:00", "minutes": 90}`); refused != "invite: the sequence is not a whole number from 0" {
		t.Errorf("a bad sequence: %s", refused)
	}
}

// TestPlanCancels: a route may withdraw what others scheduled.
func TestPlanCancels(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
routes:
  - name: canceled
    event: canceled
    cancels:
      - {steps: [reminder-24h, reminder-2h], key: payload.id}
`)
	ms := plan1(t, r, event("canceled", `{"id": "v7"}`), facts(), nil)
	for i, step := range []string{"reminder-24h", "reminder-2h"} {
		if ms[i].Step != step || ms[i].Skip == "" || ms[i].Terms.Supersedes != "v7" {
			t.Errorf("%s", told(ms[i]))
		}
	}
	if ms := plan1(t, r, event("canceled", `{}`), facts(), nil); ms[0].Refused == "" {
		t.Errorf("without a key: %s", told(ms[0]))
	}
}

// TestPlanUncertain: what a step says about an outcome that nobody knows goes with
// its deliveries.
func TestPlanUncertain(t *testing.T) {
	t.Parallel()
	r := load(t, `
version: 1
routes:
  - name: a
    event: x
    deliver:
      - {name: plain, sms: {to: "+15550100123", body: a}}
      - {name: asked, on_uncertain: reconcile, if_not_found: resend, sms: {to: "+15550100123", body: b}}
      - {name: only, if_not_found: hold, sms: {to: "+15550100123", body: c}}
      - {name: once, on_uncertain: never_twice, webhook: {url: "https://hooks.example.com/a"}}
`)
	want := map[string]dispatch.Retries{
		"asked": {OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Resend},
		"only":  {IfNotFound: dispatch.Hold},
		"once":  {OnUnknown: dispatch.NeverTwice},
	}
	for _, m := range plan1(t, r, event("x", `{}`), facts(), nil) {
		if m.Terms.Retry != want[m.Step] {
			t.Errorf("%s: %+v, want %+v", m.Step, m.Terms.Retry, want[m.Step])
		}
	}
}
