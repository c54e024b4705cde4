package routes

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestDecodeValues: what is written is what the types have.
func TestDecodeValues(t *testing.T) {
	t.Parallel()
	source := `
version: 1
expose_env: SITE_URL
defaults: {retry: {attempts: 5, first: 1m30s, longest: 1d}}
lookups: {timeout: 1.5s}
routes:
  - name: r
    event: [a, b.*]
    let: {z: 1.10, a: true, m: 02134}
    deliver:
      - name: s
        required: false
        http:
          url: https://a.test
          success: 204
          idempotent: true
          json: {b: [1, null]}
      - {name: t, deadline: 1w, openai: {instructions: i, fields: {y: 20, x: 1}}}
`
	f := &findings{}
	got := decode(parse([]byte(source), f), f)
	if err := f.problems("f"); err != nil {
		t.Fatal(err)
	}
	r := got.Routes[0]
	s, p := r.Deliver[0], r.Deliver[1]
	var lets, fields []string
	for _, e := range r.Let {
		lets = append(lets, e.name.value+"="+e.value.value)
	}
	for _, e := range p.OpenAI.Fields {
		fields = append(fields, e.name.value)
	}
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"a number", got.Version, 1},
		{"a scalar for a list of texts", []string{got.ExposeEnv[0].value}, []string{"SITE_URL"}},
		{"a scalar for a list of numbers", s.HTTP.Success, []int{204}},
		{"a list", len(r.Event), 2},
		{"durations", []time.Duration{got.Defaults.Retry.First.of, got.Defaults.Retry.Longest.of, got.Lookups.Timeout.of, p.Deadline.of},
			[]time.Duration{90 * time.Second, 24 * time.Hour, 1500 * time.Millisecond, 7 * 24 * time.Hour}},
		{"texts in their order, as they are written", lets, []string{"z=1.10", "a=true", "m=02134"}},
		{"numbers in their order", fields, []string{"y", "x"}},
		{"false, which is not missing", *s.Required, false},
		{"missing, which is not false", p.Required == nil, true},
		{"true", s.HTTP.Idempotent, true},
		{"a value of any shape", s.HTTP.JSON.node.kind, mapping},
		{"what is missing has no node", s.When.node == nil && s.Deadline.node == nil && s.SMS == nil && s.HTTP.Body.node == nil, true},
		{"what is there has one", [2]int{s.Node.line, s.Node.column}, [2]int{11, 9}},
		{"text in it too", [2]int{p.Deadline.node.line, p.Deadline.node.column}, [2]int{18, 29}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

// TestDecodeKeepsTheRest: what is wrong is as if it were not there, and the rest
// is read.
func TestDecodeKeepsTheRest(t *testing.T) {
	t.Parallel()
	f := &findings{}
	got := decode(parse([]byte(`
version: 1
routes:
  - name: r
    event: [a, [b], c]
    lookup: {one: select 1, two: {sql: select 2}}
    deliver:
      - text
      - {name: s, required: perhaps, sms: {to: {}, body: x}}
`), f), f)
	if len(f.list) != 5 {
		t.Errorf("%v, want 5 problems", f.problems("f"))
	}
	r := got.Routes[0]
	if len(r.Event) != 2 || len(r.Lookup) != 1 || len(r.Deliver) != 1 {
		t.Fatalf("%d events, %d lookups, %d steps; want 2, 1 and 1", len(r.Event), len(r.Lookup), len(r.Deliver))
	}
	if s := r.Deliver[0]; s.Required != nil || s.SMS == nil || s.SMS.To.node != nil || s.SMS.Body.value != "x" {
		t.Errorf("%+v", s)
	}
}

func TestDecodeTellsNoSecret(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		"expose_env: sk-live-4711",
		"expose_env: 4711.4711",
		"credentials: {a: {bearer: sk-live-4711}}",
		"credentials: {a: {query: {key: 47114711}}}",
		"credentials: {a: {basic: {user: sk-4711, password: [sk-4711]}}}",
	} {
		f := &findings{}
		decode(parse([]byte(source), f), f)
		if err := f.problems("f"); err == nil || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"90s", 90 * time.Second, true},
		{"2h30m", 150 * time.Minute, true},
		{"1d", 24 * time.Hour, true},
		{"1.5d", 36 * time.Hour, true},
		{"1w2d3h", (9*24 + 3) * time.Hour, true},
		{"5ms", 5 * time.Millisecond, true},
		{"100µs", 100 * time.Microsecond, true},
		{"15250w", 15250 * 7 * 24 * time.Hour, true},
		{"15251w", 0, false},
		{"106751d23h47m16s854ms775us807ns", math.MaxInt64, true},
		{"106751d23h47m16s854ms775us808ns", 0, false},
		{"99999999999999999999h", 0, false},
		{"", 0, true},
		{"1", 0, false},
		{"d", 0, false},
		{"1y", 0, false},
		{"-1s", 0, false},
		{"1.2.3s", 0, false},
	} {
		if got, ok := duration(tt.in); ok != tt.ok || ok && got != tt.want {
			t.Errorf("duration(%q) = %v, %t; want %v, %t", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"name", "when", "for_each", "at", "deadline", "on_uncertain", "sms", "email", "sql"}
	for _, tt := range []struct{ in, want string }{
		{"naem", "name"}, {"nam", "name"}, {"names", "name"},
		{"forEach", "for_each"}, {"for-each", "for_each"}, {"foreach", "for_each"},
		{"dedline", "deadline"}, {"Deadline", "deadline"}, {"e-mail", "email"},
		{"smss", "sms"}, {"channel", ""}, {"to", ""}, {"x", ""}, {"", ""}, {strings.Repeat("x", 1<<16), ""},
	} {
		if got := nearest(tt.in, known); got != tt.want {
			t.Errorf("nearest(%.20q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
