package routes

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// named are templates with names, in the file's order.
type named []namedTemplate

type namedTemplate struct {
	name string
	tmpl *template
}

func (c *compiler) named(o ordered[text], what string, n known) named {
	var out named
	for _, e := range o {
		if t := c.template(e.value, what+" "+e.name.value, n, false); t != nil {
			out = append(out, namedTemplate{e.name.value, t})
		}
	}
	return out
}

// probe has their names, with values that suit any header; nil where there are
// none.
func (n named) probe() map[string]string {
	if len(n) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, e := range n {
		out[e.name] = "x"
	}
	return out
}

// texts executes them; nil where there are none.
func (n named) texts(r *rendering) (map[string]string, error) {
	if len(n) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(n))
	for _, e := range n {
		s, err := r.text(e.tmpl)
		if err != nil {
			return nil, err
		}
		out[e.name] = s
	}
	return out, nil
}

func (c *compiler) list(texts []text, label string, n known) []*template {
	var out []*template
	for _, t := range texts {
		if tmpl := c.template(t, label, n, false); tmpl != nil {
			out = append(out, tmpl)
		}
	}
	return out
}

type smsContent struct{ to, from, body *template }

func (c *compiler) sms(s *sms, n known) content {
	return &smsContent{c.template(s.To, "to", n, false), c.template(s.From, "from", n, false), c.template(s.Body, "body", n, false)}
}

func (s *smsContent) recipient(r *rendering) (string, string, error) { return r.needed(s.to) }

func (s *smsContent) make(r *rendering) (any, string, error) {
	m := dispatch.SMS{To: r.to}
	err := r.fill(into{&m.From, s.from}, into{&m.Body, s.body})
	if err != nil {
		return nil, "", err
	}
	return m, "", m.Validate()
}

// bodyContent is the body of a request: a text, JSON, or a form.
type bodyContent struct {
	text *template
	json *jsonValue
	form named
}

// mediaType is what the request is said to have; "" leaves it open.
func (b *bodyContent) mediaType() string {
	switch {
	case b.json != nil:
		return "application/json"
	case b.form != nil:
		return "application/x-www-form-urlencoded"
	}
	return ""
}

func (b *bodyContent) make(r *rendering) (string, error) {
	switch {
	case b.json != nil:
		return b.json.make(r)
	case b.form != nil:
		var pairs []string
		for _, e := range b.form {
			v, err := r.text(e.tmpl)
			if err != nil {
				return "", err
			}
			if v != "" {
				pairs = append(pairs, url.QueryEscape(e.name)+"="+url.QueryEscape(v))
			}
		}
		return strings.Join(pairs, "&"), nil
	}
	return r.text(b.text)
}

// body compiles the keys body, json and form, of which there may be one.
func (c *compiler) body(at *node, body text, tree *tree, form ordered[text], n known) *bodyContent {
	given := 0
	for _, there := range []bool{body.node != nil, tree != nil, len(form) > 0} {
		if there {
			given++
		}
	}
	if given > 1 {
		c.f.add(at, "a request has one body: needed is one of body, json and form")
	}
	out := &bodyContent{text: c.template(body, "body", n, false), form: c.named(form, "form", n)}
	if tree != nil {
		out.json = c.json(tree.node, n)
	}
	return out
}

type webhookContent struct {
	url     *template
	body    *bodyContent // nil: the event
	headers named
}

func (c *compiler) webhook(w *webhook, n known) content {
	out := &webhookContent{url: c.template(w.URL, "url", n, false), headers: c.named(w.Headers, "headers", n)}
	if w.Body.node != nil || w.JSON != nil {
		out.body = c.body(w.Node, w.Body, w.JSON, nil, n)
	} else {
		c.note("payload")
		c.note("event")
	}
	if err := (dispatch.Webhook{URL: "https://example.com/", Body: "x", Headers: out.headers.probe()}).Validate(); err != nil {
		c.f.add(w.Node, "%s", err)
	}
	return out
}

func (w *webhookContent) recipient(r *rendering) (string, string, error) { return r.needed(w.url) }

func (w *webhookContent) make(r *rendering) (any, string, error) {
	m := dispatch.Webhook{URL: r.to}
	var err error
	if w.body != nil {
		m.Body, err = w.body.make(r)
	} else {
		m.Body, err = r.event()
	}
	if err == nil {
		m.Headers, err = w.headers.texts(r)
	}
	if err != nil {
		return nil, "", err
	}
	return m, "", m.Validate()
}

// event is the body that the Standard Webhooks specification recommends.
func (r *rendering) event() (string, error) {
	typ, _ := r.scope.at([]string{"event", "type"})
	created, _ := r.scope.at([]string{"event", "created_at"})
	return encodeJSON(struct {
		Type      any `json:"type"`
		Timestamp any `json:"timestamp"`
		Data      any `json:"data"`
	}{typ, created, r.scope.values["payload"]})
}

type httpContent struct {
	fixed   dispatch.HTTP // what does not depend on the event
	url     *template
	body    *bodyContent
	headers named
}

func (c *compiler) http(h *request, n known) content {
	out := &httpContent{
		url: c.template(h.URL, "url", n, false), headers: c.named(h.Headers, "headers", n),
		body: c.body(h.Node, h.Body, h.JSON, h.Form, n),
	}
	f := &out.fixed
	f.Method, f.Credential, f.Success = h.Method.value, h.Credential.value, h.Success
	f.Idempotent, f.IdempotencyKey = h.Idempotent, h.IdempotencyKey.value
	hasBody := h.Body.node != nil || h.JSON != nil || len(h.Form) > 0
	if f.Method == "" {
		f.Method = "GET"
		if hasBody {
			f.Method = "POST"
		}
	}
	for _, s := range h.Save {
		if f.Save == nil {
			f.Save = map[string]string{}
		}
		f.Save[s.name.value] = s.value.value
	}
	known := false
	for _, k := range c.r.file.Credentials {
		known = known || k.name.value == f.Credential
	}
	if f.Credential != "" && !known {
		c.f.add(h.Credential.node, "there is no credential %q; credentials has %s", shortened(f.Credential), listed(credentialNames(c.r.file)))
	}
	c.credentialHost(h)
	// What is fixed is found wrong now, not with the first event.
	probe := *f
	probe.URL, probe.Headers = "https://example.com/", out.headers.probe()
	if hasBody && f.Method != "GET" {
		probe.Body = "x"
	}
	if known || f.Credential == "" {
		if err := probe.Validate(); err != nil {
			c.f.add(h.Node, "%s", err)
		}
	}
	if hasBody && f.Method == "GET" {
		c.f.add(h.Node, "a GET has no body; use POST, or put what the body says into the url")
	}
	return out
}

func (h *httpContent) recipient(r *rendering) (string, string, error) { return r.needed(h.url) }

func (h *httpContent) make(r *rendering) (any, string, error) {
	m := h.fixed
	m.URL = r.to
	var err error
	if m.Body, err = h.body.make(r); err == nil {
		m.Headers, err = h.headers.texts(r)
	}
	if err != nil {
		return nil, "", err
	}
	if media := h.body.mediaType(); media != "" {
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		if !hasHeader(m.Headers, "content-type") {
			m.Headers["Content-Type"] = media
		}
	}
	return m, "", m.Validate()
}

func hasHeader(headers map[string]string, lower string) bool {
	for name := range headers {
		if strings.ToLower(name) == lower {
			return true
		}
	}
	return false
}

// none is the recipient of what goes to nobody outside.
type none struct{}

func (none) recipient(*rendering) (string, string, error) { return "", "", nil }

type sqlContent struct {
	none
	statement Statement
	args      []argument
}

func (c *compiler) sql(s *step, n known) content {
	q := c.parsed(s.SQL)
	if q == nil {
		return &sqlContent{}
	}
	statement, _ := q.Bind(nil)
	if err := (dispatch.SQL{Statement: statement}).Validate(); err != nil {
		c.f.add(s.SQL.node, "%s", err)
	}
	out := &sqlContent{
		statement: Statement{Route: c.route.name, Step: s.Name.value, Query: q, node: s.SQL.node},
		args:      c.arguments(s.SQL, q, n),
	}
	c.r.statements = append(c.r.statements, out.statement)
	return out
}

func (s *sqlContent) make(r *rendering) (any, string, error) {
	args, missing, err := r.arguments(s.args, true)
	if missing != "" || err != nil {
		return nil, missing, err
	}
	m := dispatch.SQL{}
	m.Statement, m.Args = s.statement.Query.Bind(args)
	return m, "", m.Validate()
}

type promptContent struct {
	none
	model               string
	instructions, input *template
	fields              map[string]int
}

func (c *compiler) prompt(p *prompt, n known) content {
	out := &promptContent{
		model:        p.Model.value,
		instructions: c.template(p.Instructions, "instructions", n, false),
		input:        c.template(p.Input, "input", n, false),
	}
	for _, f := range p.Fields {
		if out.fields == nil {
			out.fields = map[string]int{}
		}
		out.fields[f.name.value] = f.value
	}
	if err := (dispatch.Prompt{Model: out.model, Instructions: "x", Fields: out.fields}).Validate(); err != nil {
		c.f.add(p.Node, "%s", err)
	}
	return out
}

func (p *promptContent) make(r *rendering) (any, string, error) {
	m := dispatch.Prompt{Model: p.model, Fields: p.fields}
	if err := r.fill(into{&m.Instructions, p.instructions}, into{&m.Input, p.input}); err != nil {
		return nil, "", err
	}
	return m, "", m.Validate()
}

type logContent struct {
	none
	text *template
}

func (c *compiler) logLine(l *logLine, n known) content {
	return &logContent{text: c.template(l.Text, "text", n, false)}
}

func (l *logContent) make(r *rendering) (any, string, error) {
	s, err := r.text(l.text)
	return map[string]string{"text": s}, "", err
}

// jsonValue is JSON whose texts are templates.
type jsonValue struct {
	fixed string // the JSON itself, where nothing in it is computed
	tmpl  *template
	raw   bool // what the template makes is JSON
	keys  []string
	items []*jsonValue
	kind  kind
}

// json compiles n, which may be of any shape.
func (c *compiler) json(n *node, nm known) *jsonValue {
	out := &jsonValue{kind: n.kind}
	switch n.kind {
	case list, mapping:
		for i, item := range n.items {
			if n.kind == mapping {
				out.keys = append(out.keys, n.keys[i].value)
			}
			out.items = append(out.items, c.json(item, nm))
		}
	case str:
		if !strings.Contains(n.value, "{{") {
			out.fixed, _ = encodeJSON(n.value)
			return out
		}
		out.raw = singleJSON(n.value)
		out.tmpl = c.template(text{n.value, n}, "json", nm, false)
	case null:
		out.fixed = "null"
	default:
		out.fixed = strings.ToLower(n.value)
		if !json.Valid([]byte(out.fixed)) {
			c.f.add(n, "%s is not a value of JSON; put it in quotes", shortened(n.value))
		}
	}
	return out
}

// singleJSON reports whether a template is {{json …}} and nothing else, so that
// it stands for a value and not for a text.
func singleJSON(source string) bool {
	inner, ok := strings.CutPrefix(strings.TrimSpace(source), "{{")
	if !ok || strings.Count(source, "{{") != 1 || !strings.HasSuffix(strings.TrimSpace(source), "}}") {
		return false
	}
	word, _, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(inner, "-"), " "), " ")
	return word == "json"
}

func (v *jsonValue) make(r *rendering) (string, error) {
	switch {
	case v.tmpl != nil:
		s, err := r.text(v.tmpl)
		if err != nil || v.raw {
			return s, err
		}
		return encodeJSON(s)
	case v.kind != list && v.kind != mapping:
		return v.fixed, nil
	}
	var b strings.Builder
	brackets := "[]"
	if v.kind == mapping {
		brackets = "{}"
	}
	b.WriteByte(brackets[0])
	for i, item := range v.items {
		if i > 0 {
			b.WriteByte(',')
		}
		if v.kind == mapping {
			key, _ := encodeJSON(v.keys[i])
			b.WriteString(key + ":")
		}
		s, err := item.make(r)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	b.WriteByte(brackets[1])
	return b.String(), nil
}

// encodeJSON is json.Marshal without the escapes for HTML.
func encodeJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("no JSON: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
