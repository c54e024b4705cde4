package render

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzTemplate loads and executes whatever it is given: an error is an *Error
// with a place within the source, a result has a bounded length, nothing takes
// long, and the same scope gives the same again.
func FuzzTemplate(f *testing.F) {
	const data = `{"a": {"b": [1, 2.50, null, "x", true, {"c": "<d>"}]}, "n": 0.00, "t": "2026-01-05T20:04:00Z", "p": "+15550100123", "s": "a b"}`
	for _, fn := range Functions() {
		f.Add(fn.Example, fn.Data)
	}
	for _, source := range []string{
		"{{range .a.b}}{{.}}{{else}}{{break}}{{end}}", "{{range $i, $e := .a.b}}{{range $.a.b}}{{$i}}{{end}}{{end}}",
		"{{with $x := .a}}{{$x.b}}{{else with .n}}{{.}}{{end}}", "{{$x := .s}}{{range .a.b}}{{$x = print $x $x}}{{end}}{{$x}}",
		"{{define \"t\"}}x{{end}}", "{{block \"x\" .}}{{end}}", "{{template \"x\"}}", "{{range 200000000}}{{end}}",
		"{{printf \"%100.100f\" 1e100}}", "{{and .a nil}}{{or nil nil}}{{not nil}}", "{{(index .a.b 5).c}}", "{{nil}}{{1i}}{{'a'}}{{0x1p-2}}",
		"<a href=\"{{.s}}?{{.s}}\" onclick='{{.s}}' style=\"{{.s}}\">{{.s}}</a><script>{{.a}}</script><!-- {{.s}} -->", "<a {{.s}}={{.s}}>",
		"{{'\xff0'}}", "{{- /* a */ -}}", "{{", "}}", "{{if", "{{\"", "{{`", "{{/*", "{{.a.b.c.d}}{{$.a}}{{$}}{{.}}", "{{$x}}", "{{.a | .b | 1}}",
		"{{len (slice .s 0 1)}}{{eq . $}}{{eq .a .a}}", strings.Repeat("{{if .a}}", 40) + strings.Repeat("{{end}}", 40), strings.Repeat("{{(", 30),
		"{{money 1e200}}{{money -0.001}}{{cents \"12\"}}{{pluralize 1e-5 \"x\"}}", "{{truncate .s 1}}{{truncate .s 1 \"segments\"}}",
		"{{datetime .t \"'at' h:mmam nth\" .s}}{{time .t}}{{date .t}}",
	} {
		f.Add(source, data)
	}
	set := &Set{Region: "US", Env: map[string]string{"SITE_URL": "https://example.com"}}
	f.Fuzz(func(t *testing.T, source, data string) {
		v, err := Decode(json.RawMessage(data))
		if err != nil {
			v = nil
		} else if _, err := json.Marshal(v); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		scope, _ := v.(map[string]any)
		for _, load := range []func(string, string) (*Template, error){set.Text, set.HTML} {
			begun := time.Now()
			tmpl, err := load("x", source)
			checkError(t, source, err)
			if err == nil {
				first, err := tmpl.Execute(scope)
				checkError(t, source, err)
				if len(first) > tmpl.limit || !utf8.ValidString(first) {
					t.Errorf("%d bytes: %.100q", len(first), first)
				}
				second, again := tmpl.Execute(scope)
				if first != second || result("", err) != result("", again) {
					t.Errorf("%q, %v and then %q, %v", first, err, second, again)
				}
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		}
	})
}

func checkError(t *testing.T, source string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Line < 0 || e.Line > 1+strings.Count(source, "\n") || e.Column < 0 || e.Column > 1+len(source) ||
		!utf8.ValidString(e.Message) || len(e.Message) > 1010 || e.Message == unforeseen || e.Message == "" {
		t.Errorf("%+v", e)
	}
}
