package routes

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// walk returns the node at a path of keys and indexes, such as a/0/b.
func walk(t *testing.T, n *node, path string) *node {
	t.Helper()
	for step := range strings.SplitSeq(path, "/") {
		if step == "" {
			continue
		}
		i, err := strconv.Atoi(step)
		for at, k := range n.keys {
			if k.value == step {
				i, err = at, nil
			}
		}
		if err != nil || i >= len(n.items) {
			t.Fatalf("nothing at %s of %s", step, path)
		}
		n = n.items[i]
	}
	return n
}

func TestParsePlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, source, path string
		value              string
		at, text           string // line:column
	}{
		{"plain", "a: b\n", "a", "b", "1:4", "1:4"},
		{"plain, indented", "a:\n    b:   c   # d\n", "a/b", "c", "2:10", "2:10"},
		{"plain in several lines", "a: b\n  c  \n\n  d\ne: f\n", "a", "b c\nd", "1:4", "0:0"},
		{"what is behind it", "a: b\n  c  \n\n  d\ne: f\n", "e", "f", "5:4", "5:4"},
		{"single quotes", "a: 'b c'\n", "a", "b c", "1:4", "1:5"},
		{"single quotes in single quotes", "a: 'it''s'\n", "a", "it's", "1:4", "0:0"},
		{"double quotes", "a: \"b: c\"\n", "a", "b: c", "1:4", "1:5"},
		{"double quotes with an escape", `a: "b\nc"`, "a", "b\nc", "1:4", "0:0"},
		{"double quotes with an escape that ends like them", `a: "b\\"` + "\nc: d", "c", "d", "2:4", "2:4"},
		{"quotes over lines", "a: 'b\n  c'\nd: e\n", "a", "b c", "1:4", "0:0"},
		{"what is behind them", "a: \"b\n\n  c\"\nd: e\n", "d", "e", "4:4", "4:4"},
		{"characters of several bytes", "ä: [ö, 'üß', \"€\"]\n", "ä/2", "€", "1:14", "1:15"},
		{"characters of two code units", "a: [😀😀, b]\n", "a/1", "b", "1:9", "1:9"},
		{"literal", "a: |\n  b\n    c\n\n  d\ne: f\n", "a", "b\n  c\n\nd\n", "1:4", "2:3"},
		{"what is behind a literal", "a: |\n  b\n    c\n\n  d\ne: f\n", "e", "f", "6:4", "6:4"},
		{"literal, stripped", "a: |-\n  b\n  c\n\n", "a", "b\nc", "1:4", "2:3"},
		{"literal, kept", "a: |+\n  b\n\nc: d\n", "a", "b\n\n", "1:4", "2:3"},
		{"literal that begins with an empty line", "a: |\n\n   b\n", "a", "\nb\n", "1:4", "2:4"},
		{"literal of said indentation", "a: |2\n    b\n  c\n", "a", "  b\nc\n", "1:4", "2:3"},
		{"literal of said indentation in a list", "a:\n  - b: |2-\n       c\n      d\n", "a/0/b", " c\nd", "2:8", "3:7"},
		{"literal with a comment", "a: | # {{.x}}\n  b\n", "a", "b\n", "1:4", "2:3"},
		{"literal in a list", "- |\n  # no comment\n- b\n", "0", "# no comment\n", "1:3", "2:3"},
		{"literal without text", "a: |\nb: c\n", "a", "", "1:4", "2:1"},
		{"literal in the last line", "a: |\n  b", "a", "b", "1:4", "2:3"},
		{"folded", "a: >\n  b\n  c\n\n  d\n", "a", "b c\nd\n", "1:4", "2:3"},
		{"folded, stripped", "a: >-\n  b\n  c\n", "a", "b c", "1:4", "2:3"},
		{"list in a list", "- - a\n  - b\n", "0/1", "b", "2:5", "2:5"},
		{"mapping in a list", "- a: b\n  c: d\n", "0", "", "1:3", "0:0"},
		{"list under its key", "a:\n- b\n", "a", "", "2:1", "0:0"},
		{"item of a list", "a:\n-   b\n", "a/0", "b", "2:5", "2:5"},
		{"flow", "a: {b: [c, {d: 'e'}], f: g}\n", "a/b/1/d", "e", "1:16", "1:17"},
		{"flow mapping", "a: {b: [c, {d: 'e'}], f: g}\n", "a/b/1", "", "1:12", "0:0"},
		{"flow list", "a: {b: [c, {d: 'e'}], f: g}\n", "a/b", "", "1:8", "0:0"},
		{"flow over lines", "a: [\n  b,   # {\n  c\n]\n", "a/1", "c", "3:3", "3:3"},
		{"no value: where the key is", "a:\n  b:\n  c: d\n", "a/b", "", "2:3", "0:0"},
		{"no value in flow style", "a: {b, c: }\n", "a/c", "", "1:8", "0:0"},
		{"no item: where the dash is", "a:\n  -\n  - b\n", "a/0", "", "2:3", "0:0"},
		{"null", "a: ~\n", "a", "~", "1:4", "1:4"},
		{"CRLF", "a: b\r\nc: |\r\n  d\r\n  e\r\n", "c", "d\ne\n", "2:4", "3:3"},
		{"byte order mark", "\ufeffa: b\n", "a", "b", "1:4", "1:4"},
		{"document marks", "---\na: b\n...\n", "a", "b", "2:4", "2:4"},
		{"a colon without a space", "a: http://b:80/c?d=e#f\n", "a", "http://b:80/c?d=e#f", "1:4", "1:4"},
		{"signs within plain text", "a: b, c] d} - e ? f & g * h ! i | j > k 'l' \"m\"\n", "a", "b, c] d} - e ? f & g * h ! i | j > k 'l' \"m\"", "1:4", "1:4"},
		{"template within plain text", "a: b {{.c}}\n", "a", "b {{.c}}", "1:4", "1:4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &findings{}
			root := parse([]byte(tt.source), f)
			if err := f.problems("f"); err != nil {
				t.Fatal(err)
			}
			n := walk(t, root, tt.path)
			at, text := fmt.Sprintf("%d:%d", n.line, n.column), fmt.Sprintf("%d:%d", n.textLine, n.textColumn)
			if n.value != tt.value || at != tt.at || text != tt.text {
				t.Errorf("%q at %s, its text at %s; want %q at %s, its text at %s", n.value, at, text, tt.value, tt.at, tt.text)
			}
		})
	}
}

func TestParseKinds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		source string
		kind   kind
	}{
		{"1", integer}, {"-20", integer}, {"0", integer}, {"123456789012345678901234567890", integer},
		{"1.5", float}, {"1e3", float}, {"-0.1E-2", float},
		{"true", boolean}, {"false", boolean},
		{"null", null}, {"~", null},
		{"02134", str}, {"+15551234", str}, {"1_000", str}, {"0x1f", str}, {"0o17", str}, {".5", str}, {"1.", str}, {".inf", str}, {".nan", str},
		{"yes", str}, {"no", str}, {"on", str}, {"off", str}, {"2026-12-01", str}, {"12:30", str}, {"-", list},
		{"'1'", str}, {`"true"`, str}, {"''", str}, {"|\n  1", str},
	} {
		t.Run(tt.source, func(t *testing.T) {
			f := &findings{}
			root := parse([]byte("a:\n "+strings.ReplaceAll(tt.source, "\n", "\n ")+"\n"), f)
			if err := f.problems("f"); err != nil {
				t.Fatal(err)
			}
			if got := walk(t, root, "a").kind; got != tt.kind {
				t.Errorf("kind %d, want %d", got, tt.kind)
			}
		})
	}
}

// TestParseTexts has what the library reads otherwise than YAML 1.2 has it.
func TestParseTexts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, source, want string }{
		{"a blank at a block's end", "a: |\n  b: \n", "b: \n"},
		{"a blank at a stripped block's end", "a: |-\n  - \n", "- "},
		{"a block at the file's end", "a: >-\n  b \n  c", "b  c"},
		{"a kept block of one empty line", "a: |+\n\n", "\n"},
		{"a clipped block of empty lines", "a: |\n\n\n", ""},
		{"tabs in a block", "a: |\n  b\t\n  \tc\n", "b\t\n\tc\n"},
		{"folded lines that are indented more", "a: >\n  b\n  c\n    d\n    e\n\n  f\n  g\n", "b c\n  d\n  e\n\nf g\n"},
		{"folded lines, empty ones between", "a: >\n\n  b\n\n\n  c\n\n\n", "\nb\n\nc\n"},
		{"folded and kept", "a: >+\n  b\n  c\n\n\n", "b c\n\n\n"},
		{"plain, empty lines between", "a: b\n\n\n  c\n\n  d\n  e\n", "b\n\nc\nd e"},
		{"plain, blanks at the ends", "a: b \t\n \t c\n", "b c"},
		{"plain, a tab within", "a: b\n  \"c\"\td\n", "b \"c\"\td"},
		{"single quotes over lines", "a: ' b \n\n  c\n  '\n", " b\nc "},
		{"double quotes over lines", "a: \" b \n\n  c\\\n   d\\ \n\n\n  e\"\n", " b\ncd \n\ne"},
		{"escapes", `a: "\"\\\/\t\x41\u00e4\U0001F600\ud83d\ude00\_"`, "\"\\/\tAä😀😀\u00a0"},
		{"quotes within the others", `a: "it's"`, "it's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &findings{}
			root := parse([]byte(tt.source), f)
			if err := f.problems("f"); err != nil {
				t.Fatal(err)
			}
			if got := walk(t, root, "a").value; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestParseBounds has files that the library would take minutes, gigabytes or
// the whole stack for.
func TestParseBounds(t *testing.T) {
	t.Parallel()
	fill := func(s string) string { return strings.Repeat(s, (maxBytes-32)/len(s)) }
	for _, tt := range []struct{ name, source, want string }{
		{"too large", strings.Repeat("a", maxBytes+1), "bytes; at most"},
		{"lists in lists", fill("- "), "more than 200000"},
		{"a few lists in lists", strings.Repeat("- ", 40), "nested more than 32 deep"},
		{"brackets", "a: " + fill("["), "has more than"},
		{"a few brackets", "a: " + strings.Repeat("[", 40), "nested more than 32 deep"},
		{"a few mappings", "a: " + strings.Repeat("{a: ", 40), "nested more than 32 deep"},
		{"mappings by indentation", indented(40), "nested more than 32 deep"},
		{"keys", strings.Repeat("a: b\n", 2000), "more than 1000 keys"},
		{"keys in braces", "a: {" + strings.Repeat("a: b, ", 2000), "more than 1000 keys"},
		{"keys in braces, without values", "a: {" + strings.Repeat("a,", 50_000), "more than 1000 keys"},
		{"items without values", strings.Repeat("-\n", 50_000), "items without a value"},
		{"dashes in brackets", "a: [" + strings.Repeat("- ", 50_000), "a list with - cannot stand in"},
		{"tabs in double quotes", "a: \"" + fill("\t"), "too many tabs"},
		{"less-than signs", fill("<"), "too many < in a row"},
		{"lines", fill("\n"), "has more than 100000 lines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &findings{}
			parse([]byte(tt.source), f)
			if err := f.problems("f"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func indented(levels int) string {
	var b strings.Builder
	for i := range levels {
		fmt.Fprintf(&b, "%*sa:\n", i, "")
	}
	return b.String()
}

// TestParseBytes has what is no text.
func TestParseBytes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, source, want string }{
		{"not UTF-8", "a: b\nc: \xff\n", "f:2:4: this is not UTF-8"},
		{"half a character", "a: \xc3", "f:1:4: this is not UTF-8"},
		{"UTF-16", "\xff\xfea\x00", "f: the file is UTF-16"},
		{"NUL", "a: b\x00\n", "f:1:5: the character U+0000"},
		{"a control character", "a: 'ü\x1b[0m'\n", "f:1:6: the character U+001B"},
		{"NUL as an escape", `a: "\0"`, "f:1:4: a text cannot have the character U+0000"},
		{"a carriage return", "a: b\rc: d\n", "f:1:5: a carriage return stands alone"},
		{"a byte order mark in the middle", "a: b\ufeff\n", "f:1:5: the character U+FEFF"},
		{"nothing", "", "f: the file is empty"},
		{"blanks", " \n\n", "f: the file is empty"},
		{"a mark", "---\n", "f: the file is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &findings{}
			parse([]byte(tt.source), f)
			if err := f.problems("f"); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}
