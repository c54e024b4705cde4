package routes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// explain notes an error of the library.
func (l *located) explain(err error, f *findings) {
	var syntax interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		f.add(nil, "the file cannot be read as YAML: %s", err)
		return
	}
	t := syntax.GetToken()
	p, there := l.places[t]
	if !there {
		p = place{line: t.Position.Line, column: t.Position.Column}
	}
	l.explainAt(syntax.GetMessage(), p, f)
}

// explainAt notes the library's message about a place in words that say what to
// do: by what is known to be written wrongly, where the line or the one before
// it looks like it, and else by the message.
func (l *located) explainAt(message string, p place, f *findings) {
	if strings.Contains(message, "end character") {
		f.add(at(p.line, p.column), "the text that begins here has no closing quotation mark")
		return
	}
	if strings.Contains(message, "unknown escape") {
		f.add(at(p.line, p.column), "%s in double quotes; use single quotes, where a backslash is itself", message)
		return
	}
	if strings.Contains(message, "\t") || strings.Contains(message, "tab character") {
		for n := p.line; n <= len(l.lines); n++ {
			if column := tabbed(l.line(n)); column > 0 {
				f.add(at(n, column), tabs)
				return
			}
		}
	}
	if before := []rune(l.line(p.line)); p.column > 1 && p.column <= len(before)+1 && strings.ContainsRune(`'"`, before[p.column-2]) && message != "" {
		f.add(at(p.line, p.column), "%s", unescaped(before[p.column-2]))
		return
	}
	if next := p.line + 1; strings.Contains(message, "mapping value is not allowed") && indent(l.line(next)) > indent(l.line(p.line)) && keyOf(l.line(p.line)) && keyOf(l.line(next)) {
		f.add(at(next, indent(l.line(next))+1), "this key is indented more than the one before it, which has a value already; keys of one mapping are indented alike")
		return
	}
	for n, tried := p.line, 0; n >= 1 && tried < 2; n-- {
		line := l.line(n)
		if strings.TrimSpace(line) == "" {
			continue
		}
		tried++
		if column, says := mistake(line); says != "" {
			f.add(at(n, column), "%s", says)
			return
		}
	}
	for _, m := range meanings {
		if strings.Contains(message, m.part) {
			f.add(at(p.line, p.column), "%s", m.says)
			return
		}
	}
	if message != "" {
		message = " (" + message + ")"
	}
	f.add(at(p.line, p.column), "this cannot be read as YAML%s; look at the indentation, and put texts in quotes", message)
}

// indent is how many spaces a line begins with.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// keyOf says whether a line begins with a key.
func keyOf(line string) bool { return strings.Contains(keyed.FindString(line+" "), ":") }

func (l *located) line(n int) string {
	if n < 1 || n > len(l.lines) {
		return ""
	}
	return l.lines[n-1]
}

// meanings are what the library's messages come from.
var meanings = []struct{ part, says string }{
	{"reserved character", "a text cannot begin with this character; put it in quotes"},
	{"invalid header option", "a text cannot begin with | or >, which begin a block; put it in quotes"},
	{"multi-line content", "the text of a block is indented more than its key"},
	{"number of indent", "the lines of a block are indented as its first line is, or more"},
	{"document separator", "the text that is open here has no closing quotation mark before ---"},
	{"mapping value is not allowed", "a key with a value cannot stand here; put a text that has a colon and a space in quotes"},
	{"block sequence entries", "a list cannot begin in the line of its key; begin it in the next line"},
	{"'}'", "the mapping that { begins has no closing }, or a comma is missing in it"},
	{"flow map content", "the mapping that { begins has no closing }, or a comma is missing in it"},
	{"'{'", "this } closes nothing; put a text that has braces in quotes"},
	{"']'", "the list that [ begins has no closing ], or a comma is missing in it"},
	{"'['", "this ] closes nothing; put a text that has brackets in quotes"},
	{"non-map value", "a key and its value belong here: the key, a colon, a space, the value"},
	{"unexpected key name", "a key and its value belong here: the key, a colon, a space, the value"},
	{"invalid key", "there is no key before this colon; put a text that has a colon in quotes"},
	{"value is not allowed in this context", "this cannot stand here: it is indented neither as a key of the mapping before it nor as more of its text"},
}

var keyed = regexp.MustCompile(`^\s*(?:-\s+)*(?:(?:[^\s'"{}\[\],#:&*!|>%@-][^:#]*|'[^']*'|"[^"]*")\s*:\s+)?`)

// header is the line of a key whose text is a block.
var header = regexp.MustCompile(`^[|>][-+1-9]*(?:\s+#.*)?$`)

// mistake says what is likely to be wrong with a line that YAML cannot read, and
// in which column; "" where nothing is known.
func mistake(line string) (column int, says string) {
	if column := tabbed(line); column > 0 {
		return column, tabs
	}
	value := line[len(keyed.FindString(line)):]
	column = len([]rune(line)) - len([]rune(value)) + 1
	value = strings.TrimRight(value, " \t")
	if value == "" {
		return 0, ""
	}
	switch first := value[0]; {
	case strings.HasPrefix(value, "{{"):
		return column, inQuotes
	case first == '|' && !header.MatchString(value), first == '>' && !header.MatchString(value):
		return column, fmt.Sprintf("a text cannot begin with %c, which begins a block; put it in quotes", first)
	case strings.ContainsRune("@`%", rune(first)):
		return column, fmt.Sprintf(cannotBegin, first)
	case first == '\'' && odd(value, `'`):
		return column, unescaped('\'')
	case first == '"' && odd(value, `"`):
		return column, unescaped('"')
	case strings.ContainsRune(`{["'|>#&*!`, rune(first)):
		if i := strings.Index(value, "{{"); i > 0 && (first == '{' || first == '[') && strings.ContainsAny(value[i-1:i], " [{,") {
			return column + len([]rune(value[:i])), inQuotes
		}
		return 0, ""
	case strings.Contains(value, ": "), strings.HasSuffix(value, ":") && len(keyed.FindString(line)) > 0 && strings.Contains(keyed.FindString(line), ":"):
		return column, colon
	}
	return 0, ""
}

// unescaped says how to write a quotation mark in a text that is in such.
func unescaped(quote rune) string {
	if quote == '"' {
		return `the text in quotes ends before its line does; within double quotes a " is written \", or use single quotes`
	}
	return "the text in quotes ends before its line does; within single quotes a ' is written ''"
}

// tabbed returns the column of the first tab that a line is indented with, 0
// where there is none.
func tabbed(line string) int {
	return strings.Index(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t") + 1
}

// odd says whether the text in quotes that value begins with ends before it, but
// for a comment.
func odd(value, quote string) bool {
	rest := value[1:]
	for {
		i := strings.Index(rest, quote)
		if i < 0 {
			return false
		}
		switch {
		case quote == `"` && i > 0 && rest[i-1] == '\\', quote == "'" && strings.HasPrefix(rest[i+1:], "'"):
			if quote == "'" {
				i++
			}
			rest = rest[i+1:]
			continue
		}
		rest = strings.TrimSpace(rest[i+1:])
		return rest != "" && rest[0] != '#' && !strings.ContainsRune(":,]}", rune(rest[0]))
	}
}
