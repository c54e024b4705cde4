package openai

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	a := Ask{
		Facts: []Fact{
			{"link", "https://Example.com/q/a_B-9?x=1&y=2"},
			{"site", "See shop.example.org/deals or www.example.net."},
			{"mail", "hello@myst.co"},
		},
		Fields: []Field{{Name: "x", MustContain: []string{"https://must.example/1"}}},
	}
	rules := RulesOf(a)
	for _, tt := range []struct {
		name  string
		field Field
		text  string
		want  string // the fallback
	}{
		{"plain", Field{}, "See you at 10:00.", ""},
		{"nothing", Field{}, "", "empty"},
		{"blanks", Field{}, " \n\t ", "empty"},

		{"characters, not bytes", Field{MaxChars: 4}, " äöü😀\n", ""},
		{"one too many", Field{MaxChars: 4}, "äöü😀!", "too long (5 characters, at most 4)"},
		{"one segment", Field{MaxSegments: 1}, strings.Repeat("x", 160), ""},
		{"two segments", Field{MaxSegments: 1}, strings.Repeat("x", 161), "too long (2 segments, at most 1)"},
		{"an emoji takes the room", Field{MaxSegments: 1}, "😀" + strings.Repeat("x", 69), "too long (2 segments, at most 1)"},

		{"has what it must", Field{MustContain: []string{"$1", "Ann"}}, "Ann owes $1", ""},
		{"lacks the second", Field{MustContain: []string{"$1", "Ann"}}, "ann owes $1", "must_contain 2 is missing"},

		{"has what it must not", Field{MustNot: []string{"cheap", "free"}}, "It is FREE.", "must_not 2 is in it"},
		{"a word within a word", Field{MustNot: []string{"free", "cheap"}}, "Freedom and carefree", ""},
		{"both", Field{MustNot: []string{"free"}}, "Freedom is free", "must_not 1 is in it"},
		{"a phrase over two lines", Field{MustNot: []string{"act now"}}, "Please ACT\n  now!", "must_not 1 is in it"},
		{"not a word at all", Field{MustNot: []string{"!!"}}, "Great!!", "must_not 1 is in it"},
		{"letters of other scripts", Field{MustNot: []string{"über"}}, "Überall", ""},
		{"in other scripts", Field{MustNot: []string{"ΟΔΟΣ"}}, "η οδος", "must_not 1 is in it"},
		{"in wide letters", Field{MustNot: []string{"free"}}, "ｆｒｅｅ", "must_not 1 is in it"},
		{"with something invisible", Field{MustNot: []string{"free"}}, "fr\u200cee", "must_not 1 is in it"},
		{"nothing is no word", Field{MustNot: []string{"", " "}}, "Hi", ""},

		{"a line break", Field{}, "a\r\nb\nc", ""},
		{"a line break in one line", Field{SingleLine: true}, "a\r\nb", "line break"},
		{"a carriage return", Field{}, "a\rb", "control character"},
		{"NUL", Field{}, "a\x00b", "control character"},
		{"an escape sequence", Field{}, "\x1b[2J", "control character"},
		{"right to left override", Field{}, "a\u202eb", "control character"},
		{"a line separator", Field{SingleLine: true}, "a\u2028b", "control character"},
		{"a blank of no width", Field{}, "a\u200bb", "control character"},
		{"not UTF-8", Field{}, "a\xffb", "control character"},
		{"a family", Field{}, "👨‍👩‍👧", ""},

		{"the link", Field{}, "Here: https://example.com/q/a_B-9?x=1&y=2.", ""},
		{"the link in brackets", Field{}, "(https://example.com/q/a_B-9?x=1&y=2)!", ""},
		{"the link without https", Field{}, "example.com/q/a_B-9?x=1&y=2", ""},
		{"from must_contain", Field{}, "https://must.example/1", ""},
		{"its path", Field{}, "https://example.com/q/A_B-9?x=1&y=2", "foreign link"},
		{"more of it", Field{}, "https://example.com/q/a_B-9?x=1&y=2&z=3", "foreign link"},
		{"less of it", Field{}, "https://example.com/q/", "foreign link"},
		{"another scheme", Field{}, "http://example.com/q/a_B-9?x=1&y=2", "foreign link"},
		{"a name in front", Field{}, "https://example.com@evil.example/", "foreign link"},
		{"a foreign one", Field{}, "https://evil.example", "foreign link"},
		{"in capitals", Field{}, "HTTPS://EVIL.EXAMPLE", "foreign link"},
		{"www", Field{}, "Go to www.evil.example", "foreign link"},
		{"a bare one", Field{}, "Go to evil.example/pay", "foreign link"},
		{"with a port", Field{}, "Go to evil.example:8080", "foreign link"},
		{"an address", Field{}, "Go to 10.0.0.1/pay", "foreign link"},
		{"in Cyrillic", Field{}, "Go to примеp.рф/x", "foreign link"},
		{"with a wide dot", Field{}, "Go to evil。example/pay", "foreign link"},
		{"in wide letters", Field{}, "Go to ｅｖｉｌ．ｅｘａｍｐｌｅ/pay", "foreign link"},
		{"in Markdown", Field{}, "[Pay](https://evil.example)", "foreign link"},
		{"in HTML", Field{}, `<a href="https://evil.example">x</a>`, "foreign link"},
		{"another scheme yet", Field{}, "ftp://example.com/x", "foreign link"},

		{"a domain alone", Field{}, "evil.com", "foreign link"},
		{"a domain of the facts", Field{}, "Example.com and www.example.net", ""},
		{"its www", Field{}, "www.example.com", ""},
		{"a bare one of the facts", Field{}, "shop.example.org/deals", ""},
		{"a bare one with https", Field{}, "https://shop.example.org/deals/", ""},
		{"no blank after a sentence", Field{}, "Thanks.See you.", ""},
		{"no domains", Field{}, "At 10.30am, e.g. on 12.11.2025, v1.2.3, approx. 3.5km", ""},
		{"an address of the facts", Field{}, "hello@myst.co", ""},
		{"a foreign address", Field{}, "hello@evil.com", "foreign link"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := rules.Check(tt.field, tt.text)
			if w.Fallback != tt.want {
				t.Errorf("Check(%q) = %q, want %q", tt.text, w.Fallback, tt.want)
			}
			if w.Fallback == "" && (w.Text == "" || strings.TrimSpace(w.Text) != w.Text || strings.Contains(w.Text, "\r")) {
				t.Errorf("text %q", w.Text)
			}
		})
	}
	if w := new(Rules).Check(Field{}, "https://evil.example"); w.Fallback != "" {
		t.Errorf("without rules for links: %q", w.Fallback)
	}
}

// The time does not depend on what stands in a text.
func TestCheckTakesNoTime(t *testing.T) {
	rules := RulesOf(quote())
	for _, unit := range []string{"ab.cd+", "a.a.", "a-", "ab.cd ", "ab.cd://", "1.", "1.1.1.1/ ", "www.", "free", "fre", "a\u0301", "\ufdfa", "."} {
		text := strings.Repeat(unit, maxAnswer/2/len(unit))
		began := time.Now()
		rules.Check(Field{MustNot: []string{"free free", "zzz"}}, text)
		if took := time.Since(began); took > 10*time.Second { // with the race detector; a search that is quadratic takes a minute
			t.Errorf("%q: %s", unit, took)
		}
	}
}

// A link that is in the facts may be in the words, whatever it looks like.
func FuzzCheckTakesFacts(f *testing.F) {
	for _, link := range []string{pay, "https://a.b/c_", "www.x.y", "x.com/)", "http://[::1]/", "ﬁ.com/x"} {
		f.Add(link)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 {
			return
		}
		rules := RulesOf(Ask{Facts: []Fact{{"text", text}}})
		if rules.foreign(text) {
			t.Errorf("%q is foreign to itself", text)
		}
		w := rules.Check(Field{MaxChars: 100, SingleLine: true, MustNot: []string{"x"}}, text)
		if utf8.RuneCountInString(w.Text) > 100 || strings.ContainsAny(w.Text, "\r\n\x00") {
			t.Errorf("text %q", w.Text)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"sms":"x","subject":null}`, "```json\n{\"sms\":\"x\"}\n```", "```", `{"sms":"\ud800"}`, `[]`, `null`, `{"sms":{"sms":"x"}}`, `{"sms":"x"} y`} {
		f.Add(s)
	}
	fields := quote().Fields
	f.Fuzz(func(t *testing.T, content string) {
		texts, ok := parse(content, fields)
		if !ok && texts != nil {
			t.Errorf("texts %v of a broken answer", texts)
		}
		for name, text := range texts {
			if name != "sms" && name != "subject" {
				t.Errorf("a text for %q", name)
			}
			if !utf8.ValidString(text) {
				t.Errorf("%q is not UTF-8", text)
			}
		}
	})
}
