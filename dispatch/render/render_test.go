package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func newYork(t testing.TB) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func testSet(t testing.TB) *Set {
	return &Set{Zone: newYork(t), Region: "US", Env: map[string]string{"SITE_URL": "https://example.com", "SITE_NAME": "Ours"}}
}

func scope(t testing.TB, data string) map[string]any {
	t.Helper()
	v, err := Decode(json.RawMessage(data))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// texts executes a template for text and returns its result or its error.
func texts(t testing.TB, source, data string) string {
	t.Helper()
	tmpl, err := testSet(t).Text("x", source)
	if err != nil {
		return err.Error()
	}
	return result(tmpl.Execute(scope(t, data)))
}

func result(s string, err error) string {
	if err != nil {
		return err.Error()
	}
	return s
}

func TestFunctionsDoWhatTheirTableSays(t *testing.T) {
	for _, f := range Functions() {
		t.Run(f.Name, func(t *testing.T) {
			if !strings.Contains(f.Example, f.Name) || !strings.HasPrefix(f.Signature, f.Name+" ") || f.Meaning == "" {
				t.Errorf("the row of %s is not whole", f.Name)
			}
			if got := texts(t, f.Example, f.Data); got != f.Result {
				t.Errorf("%s with %s\n is %q\nnot %q", f.Example, f.Data, got, f.Result)
			}
		})
	}
}

func TestLayoutWordsDoWhatTheirTableSays(t *testing.T) {
	for _, w := range LayoutWords() {
		got := texts(t, `{{datetime .t "`+w.Word+`"}}`, `{"t": "2026-01-05T15:04:09-05:00"}`)
		if got != w.Example {
			t.Errorf("%s is %q, not %q", w.Word, got, w.Example)
		}
	}
}

func TestText(t *testing.T) {
	const data = `{
		"payload": {"name": "Ann", "nothing": null, "zero": 0, "exact": 12345678901234567890.10, "none": 0.00,
			"big": 9007199254740993, "items": [{"name": "roof", "n": 2}, {"name": "gutter", "n": null}], "list": ["a", "b"], "empty": [],
			"ok": true, "object": {"b": 2, "a": 1}, "text": "1234.505", "t": "2026-01-05T20:04:00+00:00"},
		"a": {"b": {"c": null}}
	}`
	for _, tt := range []struct{ name, source, want string }{
		{"text alone", "Hello", "Hello"},
		{"nothing at all", "", ""},
		{"a path", "Hi {{.payload.name}}!", "Hi Ann!"},
		{"null prints nothing", "[{{.payload.nothing}}]", "[]"},
		{"a path through null is null", "[{{.payload.nothing.a.b}}{{.a.b.c.d}}]", "[]"},
		{"null is false", "{{if .payload.nothing}}yes{{else}}no{{end}}", "no"},
		{"a number keeps its text", "{{.payload.exact}} {{.payload.none}} {{.payload.big}}", "12345678901234567890.10 0.00 9007199254740993"},
		{"zero is false, however it is written", "{{if .payload.none}}yes{{else}}no{{end}}{{if or .payload.zero .payload.none}}yes{{else}}no{{end}}{{not .payload.none}}", "nonotrue"},
		{"another number is true", "{{if .payload.exact}}yes{{end}}{{with .payload.exact}}{{.}}{{end}}", "yes12345678901234567890.10"},
		{"with keeps what is false", "{{with $n := .payload.none}}{{else}}{{$n}}{{end}}", "0.00"},
		{"range", "{{range .payload.items}}{{.name}}={{.n}};{{end}}", "roof=2;gutter=;"},
		{"range with variables", "{{range $i, $e := .payload.items}}{{$i}}{{$e.name}} {{end}}", "0roof 1gutter "},
		{"range over an object goes by its keys", "{{range $k, $v := .payload.object}}{{$k}}{{$v}}{{end}}", "a1b2"},
		{"range over null and nothing", "{{range .payload.nothing}}x{{else}}none{{end}}{{range .payload.empty}}x{{else}}none{{end}}", "nonenone"},
		{"range with break", "{{range .payload.list}}{{.}}{{break}}{{end}}", "a"},
		{"the whole from within", "{{range .payload.list}}{{$.payload.name}}{{.}} {{end}}", "Anna Annb "},
		{"a chain", "{{(index .payload.items 0).name}}", "roof"},
		{"index may miss", "[{{index .payload \"no\"}}{{index .payload \"no\" \"more\"}}{{index .payload.list 7}}{{(index .payload \"no\").x}}]", "[]"},
		{"variables", "{{$n := .payload.name}}{{if true}}{{$n = \"Bob\"}}{{end}}{{$n}}", "Bob"},
		{"else if", "{{if .payload.nothing}}a{{else if .payload.ok}}b{{else}}c{{end}}", "b"},
		{"bool", "{{.payload.ok}} {{false}}", "true false"},
		{"literals are exact", "{{1234567890.123456789}} {{1.50}} {{-7}} {{0.1}}", "1234567890.123456789 1.50 -7 0.1"},
		{"pipes", "{{.payload.name | printf \"%s!\" | upper}}", "ANN!"},
		{"a piped value comes first", `{{.payload.text | money "EUR"}} {{money .payload.text "EUR"}}`, "€1,234.51 €1,234.51"},
		{"space is cut", "a {{- .payload.name -}} b", "aAnnb"},
		{"comments", "a{{/* nothing */}}b", "ab"},
		{"eq is exact", "{{eq .payload.exact 12345678901234567890.1}}{{eq .payload.big 9007199254740992}}{{lt .payload.big 9007199254740993.5}}", "truefalsetrue"},
		{"null and equality", `{{eq .payload.nothing ""}}{{eq "" .payload.nothing}}{{eq .payload.nothing .a.b.c}}{{eq .payload.nothing 0}}{{ne .payload.nothing "x"}}{{eq .payload.name nil}}`, "truetruetruefalsetruefalse"},
		{"null is in no order", "{{lt .payload.nothing 1}}{{ge .payload.nothing 1}}{{le 1 .payload.nothing}}", "falsefalsefalse"},
		{"and, or stop early", "{{and .payload.nothing (lt .payload.name 1)}}{{or .payload.name (lt .payload.name 1)}}", "Ann"},
		{"json", "{{json .payload.object}} {{json .payload.exact}} {{json .payload.none}} {{json .payload.nothing}} {{json \"<&>\"}}", `{"a":1,"b":2} 12345678901234567890.10 0.00 null "<&>"`},
		{"money of null", "[{{money .payload.nothing}}{{cents .payload.nothing}}{{phone .payload.nothing}}{{datetime .payload.nothing}}{{upper .payload.nothing}}]", "[]"},
		{"default before what it replaces", `{{.payload.nothing | datetime | default "TBD"}}`, "TBD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := texts(t, tt.source, data); got != tt.want {
				t.Errorf("%s\n is %q\nnot %q", tt.source, got, tt.want)
			}
		})
	}
}

func TestExecutionErrors(t *testing.T) {
	const data = `{"quote": {"id": 5, "total": 12, "items": [], "name": "SECRET", "o": {}}, "list": [{"a": "SECRET"}], "many": ` + "%s" + `}`
	filled := fmt.Sprintf(data, `["`+strings.Repeat(`x","`, 60)+`x"]`)
	for _, tt := range []struct{ name, source, want string }{
		{"a missing key", "Hi\n {{.quote.totl}}", `x:2:4: .quote.totl: there is no key "totl" in .quote; there are total, o, id, items, name`},
		{"of the whole", "{{.qoute.total}}", `x:1:3: .qoute.total: there is no key "qoute"; there are quote, list, many`},
		{"of an empty object", "{{.quote.o.a}}", `x:1:3: .quote.o.a: there is no key "a" in .quote.o; it has no keys`},
		{"of a variable", "{{$q := .quote}}{{$q.no}}", `x:1:19: $q.no: there is no key "no" in $q; there are`},
		{"of an element", "{{range .list}}{{.b}}{{end}}", `x:1:18: .b: there is no key "b"; there are a`},
		{"of a number", "{{.quote.total.x}}", `x:1:3: .quote.total.x: .quote.total is a number, which has no key "x"`},
		{"of a list", "{{.list.a}}", `.list is a list, which has no key "a"; use range`},
		{"of text", "{{.quote.name.x}}", `.quote.name is text`},
		{"an object", "{{.quote}}", `x:1:3: this is an object; use one of its keys`},
		{"a list", "{{.list}}", `this is a list; use join`},
		{"the whole", "{{.}}{{$}}", `x:1:3: this is an object`},
		{"range over text", "{{range .quote.name}}{{end}}", `x:1:9: range takes a list or an object, and this is text`},
		{"range over a number", "{{range .quote.total}}{{end}}", `and this is a number`},
		{"money of text", "{{money .quote.name}}", `x:1:3: money: the amount: it is text that is not a number`},
		{"cents of a fraction", "{{cents 1.5}}", `whole number`},
		{"order of kinds", "{{lt .quote.name 5}}", `x:1:3: lt: text cannot be compared with a number`},
		{"lists", "{{eq .list .list}}", `two values that are each a list`},
		{"a time that is none", "{{datetime .quote.name}}", `datetime: it is given text that is not a time`},
		{"a time without a zone", `{{datetime "2026-01-05T10:00:00"}}`, `at time zone 'UTC'`},
		{"a date", `{{datetime "2026-01-05"}}`, `use date for it`},
		{"a zone of the data", `{{datetime "2026-01-05T10:00:00Z" "" .quote.name}}`, `there is no time zone of that name`},
		{"a path out of the zones", `{{datetime "2026-01-05T10:00:00Z" "" (print "../" "x")}}`, `there is no time zone of that name`},
		{"a layout of the data", `{{datetime "2026-01-05T10:00:00Z" .quote.name}}`, `the layout has something in it that layouts do not have`},
		{"a phone number that is none", `{{phone .quote.name}}`, `phone: this cannot be a phone number, neither one of US nor`},
		{"one without its area code", `{{phone "555-0123"}}`, `this cannot be a phone number`},
		{"a join of objects", `{{join .list}}`, `the list has an object in it`},
		{"a part of a path", `{{url ".."}}`, `a part of a path cannot be . or ..`},
		{"too much output", `{{$s := join .many}}{{range .many}}{{range $.many}}{{$s}}{{$s}}{{end}}{{end}}`, `the result is longer than 64 KiB`},
		{"doubling", `{{$s := "xxxxxxxxxxxxxxxx"}}{{range .many}}{{$s = print $s $s}}{{end}}`, `x:1:51: print: the text is longer than 64 KiB`},
		{"doubling with printf", `{{$s := "xxxxxxxxxxxxxxxx"}}{{range .many}}{{$s = printf "%s%s" $s $s}}{{end}}`, `longer than 64 KiB`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := testSet(t).Text("x", tt.source)
			if err != nil {
				t.Fatalf("at load: %v", err)
			}
			_, err = tmpl.Execute(scope(t, filled))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%s\n is %v\nnot %s", tt.source, err, tt.want)
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("a value in: %v", err)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"an unknown function", "a\n  {{mony .total}}", `x:2:5: there is no function mony; the nearest is money; there are and, cents, date`},
		{"one as an argument", "{{upper (uper .a)}}", `x:1:10: there is no function uper`},
		{"call", "{{call .f}}", `x:1:3: the function call is not accepted`},
		{"html", "{{html .f}}", `the function html is not accepted`},
		{"js", "{{.f | js}}", `the function js is not accepted`},
		{"urlquery", "{{urlquery .f}}", `the function urlquery is not accepted`},
		{"one of our own inside", "{{_path . 1}}", `there is no function _path`},
		{"now", "{{now}}", `there is no function now, since`},
		{"define", `a{{define "x"}}{{end}}`, `x:1:2: {{define}}, {{template}} and {{block}} are not accepted`},
		{"define under the name that is ours", `{{- define "t"}}x{{end}}`, `{{define}}, {{template}} and {{block}} are not accepted`},
		{"define beside a text", `a{{define "t"}}x{{end}}`, `{{define}}, {{template}} and {{block}} are not accepted`},
		{"template", `{{- template "x"}}`, `x:1:14: {{define}}, {{template}} and {{block}} are not accepted`},
		{"block", `{{block "x" .}}{{end}}`, `{{define}}, {{template}} and {{block}} are not accepted`},
		{"range over a number", "{{range 200000000}}{{end}}", `x:1:9: range takes a list of the data`},
		{"in parentheses", "{{range (5)}}{{end}}", `range takes a list of the data`},
		{"range over len", "{{range len .a}}{{end}}", `x:1:9: range takes a list of the data, such as .payload.items, and len does not give one`},
		{"range over text", `{{range "abc"}}{{end}}`, `range takes a list of the data`},
		{"three ranges", "{{range .a}}{{range .b}}{{range .c}}{{end}}{{end}}{{end}}", `x:1:33: this range is within 2 others`},
		{"a width", `{{printf "%1000d" .n}}`, `x:1:10: printf: a width or a number of decimals may be at most 100`},
		{"a precision", `{{printf "%.101f" .n}}`, `at most 100`},
		{"a width of the data", `{{printf "%*d" .n .n}}`, `%* is not accepted`},
		{"a verb", `{{printf "%x" .n}}`, `%x is not accepted`},
		{"a numbered value", `{{printf "%[1]d" .n}}`, `%[ is not accepted`},
		{"a format of the data", `{{printf .f .n}}`, `the format has to be a text in quotes`},
		{"a format through a pipe", `{{"%s" | printf}}`, `the format has to be a text in quotes`},
		{"too few values", `{{printf "%s %s" .n}}`, `the format writes 2 values, and there is 1`},
		{"values", `{{money}}`, `x:1:3: money is given 0 values; write money AMOUNT`},
		{"too many values", `{{upper .a .b}}`, `upper is given 2 values; write upper TEXT`},
		{"a currency", `{{money .a "euro"}}`, `x:1:12: money: the currency has to be a code of three letters`},
		{"a form", `{{money .a "EUR" "loud"}}`, `has to be "code" or "plain"`},
		{"a layout", `{{datetime .a "Jan 2, 2006"}}`, `x:1:15: datetime: there is no word Jan in layouts; there are weekday, wday, month`},
		{"a layout of digits", `{{.a | date "2006-01-02"}}`, `layouts are made of words`},
		{"a zone", `{{datetime .a "" "America/Nowhere"}}`, `there is no time zone of that name`},
		{"a region", `{{phone .a "ZZ"}}`, `there is no such region`},
		{"env", `{{env "HOME"}}`, `x:1:7: env: HOME may not be read; list it under expose_env, which has SITE_NAME, SITE_URL`},
		{"env of the data", `{{env .name}}`, `takes a name in quotes`},
		{"env through a pipe", `{{"SITE_URL" | env}}`, `env takes nothing through a pipe`},
		{"default the wrong way round", `{{default "x" .a}}`, `the value comes first`},
		{"a comparison through a pipe", `{{.a | lt 5}}`, `lt takes nothing through a pipe; write lt A B`},
		{"a path with values", `{{.a .b}}`, `x:1:3: .a is not a function`},
		{"a pipe into a path", `{{.a | .b}}`, `.b is not a function`},
		{"the whole set", `{{$ := .a}}`, `x:1:3: $ is the whole of the values`},
		{"a complex number", `{{1i}}`, `1i is not accepted as a number`},
		{"a character", `{{'a'}}`, `'a' is not accepted as a number`},
		{"hexadecimal", `{{0x10}}`, `0x10 is not accepted as a number`},
		{"a variable of another branch", `{{if .a}}{{$x := 1}}{{else}}{{$x}}{{end}}`, `x:1:31: the variable $x is not set in this block`},
		{"an unknown variable", "a\nb {{$x}}", `x:2:3: undefined variable "$x"; it has to be set before`},
		{"not closed", "a {{if .a}}\nb{{range .c}}{{end}}", `x:1:3: {{if}} is not closed`},
		{"an action not closed", "a\nbc {{.a", `x:2:4: the action is not closed`},
		{"an empty action", "{{}}", `x:1:1: the action is empty`},
		{"an end too many", "{{.a}}{{end}}", `x:1:7: this {{end}} closes nothing`},
		{"a quote", "{{.a}} {{upper \"x}}\n", `x:1:8: a text is not closed`},
		{"nonsense", "{{.a}} {{.b}} {{!}} {{.c}}", `x:1:15: unexpected`},
		{"not UTF-8", "{{'\xff0'}}", `x: the template is not valid UTF-8`},
		{"too long", strings.Repeat("x", maxText+1), `x: the template is longer than 64 KiB`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testSet(t).Text("x", tt.source)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s\n is %v\nnot %s", tt.source[:min(len(tt.source), 100)], err, tt.want)
			}
		})
	}
}

// Each of these would take seconds, or a gigabyte, if it were not bounded.
func TestNothingRunsOn(t *testing.T) {
	data := scope(t, fmt.Sprintf(`{"b": true, "list": [%s1], "s": %q}`, strings.Repeat("1,", 9999), strings.Repeat("x y", 20000)))
	rep := func(s string, size int) string { return strings.Repeat(s, size/len(s)) }
	for _, tt := range []struct{ name, source, want string }{
		{"the longest range", `{{range .list}}{{end}}ok`, "ok"},
		{"a longer one", `{{range .list}}{{end}}{{range slice .list 0 1}}{{end}}`, "the ranges of a template go over at most 10000 elements together"},
		{"nested ones", `{{range .list}}{{range $.list}}{{end}}{{end}}`, "the ranges of a template go over at most 10000 elements together"},
		{"much within a range", `{{range .list}}` + rep("{{if 1}}{{end}}", 60000) + `{{end}}`, "it works on too much text"},
		{"long texts within a range", `{{$x := 1}}{{range .list}}{{$x = title $.s}}{{end}}`, "it works on too much text"},
		{"many values", `{{print` + rep(` ""`, 60000) + `}}`, "print is given 20000 values; at most 50 are accepted"},
		{"a long path", `{{` + rep(`.b`, 60000) + `}}`, "a path may have at most 50 keys"},
		{"a long path in pieces", rep(`{{with .b}}`, 30000) + rep(`{{end}}`, 19089), "x:1:19: .b: the value is true or false, which has no key"},
		{"many mistakes", rep(`{{.b}}`, 60000) + `{{!}}`, "unexpected"},
		{"parentheses", `{{` + rep(`(`, 60000), "max expression depth exceeded"},
		{"a long text to cut", `{{truncate (slice .s 0) 10}}`, "x yx yx..."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, load := range []func(string, string) (*Template, error){testSet(t).Text, testSet(t).HTML} {
				tmpl, err := load("x", tt.source)
				var s string
				if err == nil {
					s, err = tmpl.Execute(data)
				}
				if got := result(s, err); !strings.Contains(got, tt.want) {
					t.Errorf("it is %.300s\nnot %s", got, tt.want)
				}
			}
		})
	}
}

func TestPaths(t *testing.T) {
	for _, tt := range []struct{ source, want string }{
		{"Hi", ""},
		{"{{.a.b}} {{.a.b}} {{.c}}", "a.b c"},
		{"{{with .a}}{{.b}}{{else}}{{.c}}{{end}}{{.d}}", "a a.b c d"},
		{"{{range .a}}{{.b}}{{$.c}}{{end}}", "a a.[].b c"},
		{"{{range $i, $e := .a}}{{$i}}{{$e.b}}{{.}}{{end}}", "a a.[].b a.[]"},
		{"{{range .a}}{{range .b}}{{.c}}{{end}}{{end}}", "a a.[].b a.[].b.[].c"},
		{"{{$x := .a}}{{$x.b}}{{if .c}}{{$x = .d}}{{end}}{{$x.e}}", "a a.b c d"},
		{`{{(index .a 0).b}} {{(index .c "d").e}}`, "a a.[].b c"},
		{"{{money (default .a 5)}} {{.b | upper}}", "a b"},
		{"{{with or .a .b}}{{.c}}{{end}}", "a b"},
		{"{{range slice .a 0 2}}{{.b}}{{end}}", "a a.[].b"},
		{"{{json .}}", "(whole)"},
	} {
		tmpl, err := testSet(t).Text("x", tt.source)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range tmpl.Paths() {
			if len(p) == 0 {
				p = []string{"(whole)"}
			}
			got = append(got, strings.Join(p, "."))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s reads %s; want %s", tt.source, s, tt.want)
		}
	}
}

func TestHTML(t *testing.T) {
	const data = `{"name": "<b>Ann & Bob</b>", "token": "a/b c&d\"", "bad": "javascript:alert(1)", "n": 12.50, "null": null, "link": "https://example.com/?a=1&b=2", "items": ["<", ">"]}`
	for _, tt := range []struct{ name, source, want string }{
		{"text", "<p>{{.name}}</p>", "<p>&lt;b&gt;Ann &amp; Bob&lt;/b&gt;</p>"},
		{"the result of a function", "<p>{{upper .name}}</p>", "<p>&lt;B&gt;ANN &amp; BOB&lt;/B&gt;</p>"},
		{"numbers and null", "<p>{{.n}}{{.null}}{{money .n}}</p>", "<p>12.50$12.50</p>"},
		{"a range", "{{range .items}}<i>{{.}}</i>{{end}}", "<i>&lt;</i><i>&gt;</i>"},
		{"a link", `<a href="{{.link}}">`, `<a href="https://example.com/?a=1&amp;b=2">`},
		{"a script in a link", `<a href="{{.bad}}">`, `<a href="#ZgotmplZ">`},
		{"a script escaped as a part", `<a href="{{url .bad}}">`, `<a href="javascript%3Aalert%281%29">`},
		{"a script escaped as a query", `<a href="{{query .bad}}">`, `<a href="javascript%3Aalert%281%29">`},
		{"a part of a path is escaped once", `<a href="https://example.com/q/{{url .token}}">`, `<a href="https://example.com/q/a%2Fb%20c%26d%22">`},
		{"a query is escaped once", `<a href="https://example.com/?q={{query .token}}">`, `<a href="https://example.com/?q=a%2Fb%20c%26d%22">`},
		{"and without the function too", `<a href="https://example.com/?q={{.token}}">`, `<a href="https://example.com/?q=a%2fb%20c%26d%22">`},
		{"in a script", `<script>var a = {{.name}}, n = {{.n}}, z = {{.null}}</script>`, `<script>var a = "\u003cb\u003eAnn \u0026 Bob\u003c/b\u003e", n =  12.50 , z =  null </script>`},
		{"an attribute", `<p title={{.name}}>`, `<p title=&lt;b&gt;Ann&#32;&amp;&#32;Bob&lt;/b&gt;>`},
		{"an escaped URL as text", `<p>{{url "<"}}</p>`, `<p>%3C</p>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := testSet(t).HTML("x", tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if got := result(tmpl.Execute(scope(t, data))); got != tt.want {
				t.Errorf("%s\n is %s\nnot %s", tt.source, got, tt.want)
			}
		})
	}
}

func TestHTMLLoadErrors(t *testing.T) {
	for _, tt := range []struct{ name, source, want string }{
		{"a tag", "<p>\n<a href=\"{{.a}}", `the HTML ends within a tag`},
		{"branches", `<p>{{if .a}}<a href="{{end}}`, `x:1:9: the branches end at different places`},
		{"a range", `<p>{{range .a}}<a {{end}}`, `x:1: the HTML is wrong here`},
		{"a URL", `<a href="{{if .a}}/x?{{end}}{{.b}}">`, `x:1:31: it cannot be seen which part of a URL`},
		{"an attribute", `<a href=x"{{.b}}>`, `the HTML is wrong here`},
		{"an unknown function", `<p>{{foo}}</p>`, `x:1:6: there is no function foo`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testSet(t).HTML("x", tt.source)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s\n is %v\nnot %s", tt.source, err, tt.want)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	const data = `{"a":[1,-5,9223372036854775807,9223372036854775808,-0,1.0,1e2,0.00,1e400],"b":null,"c":true,"d":"é\u0000\"<"}`
	v, err := Decode(json.RawMessage(data))
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var x, y any
	for _, p := range []struct {
		raw string
		to  *any
	}{{data, &x}, {string(again), &y}} {
		d := json.NewDecoder(strings.NewReader(p.raw))
		d.UseNumber()
		if err := d.Decode(p.to); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(x, y) {
		t.Errorf("%s\nis not\n%s", again, data)
	}
	want := []string{"int64", "int64", "int64", "render.Number", "render.Number", "render.Number", "render.Number", "render.Number", "render.Number"}
	for i, n := range v.(map[string]any)["a"].([]any) {
		if got := fmt.Sprintf("%T", n); got != want[i] {
			t.Errorf("%v is a %s, want %s", n, got, want[i])
		}
	}
	for _, bad := range []string{"", " ", "{", "1 2", "[1]]", "nul", "01"} {
		if _, err := Decode(json.RawMessage(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestExecuteAtOnce(t *testing.T) {
	for _, load := range []func(string, string) (*Template, error){testSet(t).Text, testSet(t).HTML} {
		tmpl, err := load("x", `{{range .items}}{{.}} {{end}}{{money .total}} {{datetime .at "wday" "Europe/Paris"}}`)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				data := scope(t, fmt.Sprintf(`{"items": [%d, %d], "total": %d.5, "at": "2026-01-05T20:04:00Z"}`, i, i+1, i))
				for range 50 {
					if got, want := result(tmpl.Execute(data)), fmt.Sprintf("%d %d $%d.50 Mon", i, i+1, i); got != want {
						t.Errorf("%q, want %q", got, want)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}
