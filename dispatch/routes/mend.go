package routes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

const (
	inQuotes = "a value that begins with {{ is read as a mapping; put it in quotes: '{{…}}'"
	colon    = "a text that has a colon and a space is read as a key; put it in quotes"
	tabs     = "a tab cannot indent; use spaces"
)

// refuse notes what of YAML is not accepted, what the library cannot read, and
// what it must not be given.
func (l *located) refuse(f *findings) {
	var open []bool // the brackets that are open: { or not
	documents, content, done := 0, false, false
	bounds := bounds{f: f}
	line := 0 // of the token before
	for i, t := range l.solid {
		p, there := l.places[t]
		if !there {
			break
		}
		here := at(p.line, p.column)
		first := p.line != line && !p.block
		line = p.line
		if before := l.line(p.line); first && len(open) == 0 && t.Type != token.InvalidType && strings.Contains(before[:len(before)-len(strings.TrimLeft(before, " \t"))], "\t") {
			f.add(at(p.line, strings.Index(before, "\t")+1), tabs)
			return
		}
		switch t.Type {
		case token.InvalidType:
			l.explainAt(t.Error, p, f)
			return
		case token.DocumentHeaderType:
			if documents++; documents > 1 || content {
				f.add(here, "a second document begins here; one is accepted: leave the --- out")
				return
			}
			continue
		case token.DocumentEndType:
			done = true
			continue
		case token.DirectiveType:
			if p.column == 1 {
				f.add(here, "a directive is not accepted; leave the line out")
			} else {
				f.add(here, "a text cannot begin with %%; put it in quotes")
			}
			return
		case token.AnchorType:
			f.add(here, "an anchor (&) is not accepted; write the value where it is needed, or put a text that begins with & in quotes")
		case token.AliasType:
			f.add(here, "an alias (*) is not accepted; write the value itself, or put a text that begins with * in quotes")
		case token.MergeKeyType:
			f.add(here, "a merge key (<<) is not accepted; write the keys themselves")
		case token.TagType:
			f.add(here, "a tag (%s) is not accepted; leave it out, or put a text that begins with ! in quotes", t.Value)
		case token.LiteralType, token.FoldedType:
			if len(open) > 0 {
				f.add(here, "a block cannot stand in braces or brackets; put the text in quotes")
			}
		case token.SequenceEntryType:
			if len(open) > 0 {
				f.add(here, "a list with - cannot stand in braces or brackets; write it in brackets, or put a text that begins with - in quotes")
			}
		case token.MappingKeyType:
			f.add(here, "a key that begins with ? is not accepted; write key: value, or put a text that begins with ? in quotes")
		case token.StringType:
			if p.text != "" && !p.block && strings.ContainsRune(",[]{}#&*!|>'\"%@`", rune(p.text[0])) {
				f.add(here, "a text cannot begin with %c; put it in quotes", p.text[0])
			} else if !p.block {
				l.plain(p, f)
			}
		case token.MappingValueType:
			if len(open) > 0 && i > 0 && p.end < len(l.text) && !strings.ContainsRune(" \t\n,[]{}", l.text[p.end]) && l.solid[i-1].Indicator != token.QuotedScalarIndicator {
				f.add(here, "a colon that ends a key is followed by a space; put a text that has a colon in quotes")
			}
		case token.MappingStartType:
			if next := l.after(i); next != nil && next.Type == token.MappingStartType && len(open) == 0 && l.places[next].line == p.line && l.places[next].column == p.column+1 {
				f.add(here, inQuotes)
			}
		}
		if done {
			f.add(here, "this stands behind the end of the document; leave the ... out")
			return
		}
		content = true
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			open = append(open, t.Type == token.MappingStartType)
		case token.MappingEndType, token.SequenceEndType:
			open = open[:max(0, len(open)-1)]
		}
		if !bounds.take(l, i, open) || len(f.list) > maxProblems {
			return
		}
	}
	for _, e := range l.escapes {
		f.add(e, "this escape is no character; use single quotes, where a backslash is itself")
	}
	if l.lost != nil && len(f.list) == 0 {
		l.explainAt("", place{line: l.lost.line, column: l.lost.column}, f)
	}
}

// plain notes what the library takes for more of a plain text, and YAML does not,
// or no person would.
func (l *located) plain(p place, f *findings) {
	switch {
	case strings.Contains(p.text, ": "), strings.Contains(p.text, ":\n"), strings.HasSuffix(p.text, ":"):
		f.add(at(p.line, p.column), "%s", colon)
	case strings.Contains(p.text, " #"), strings.Contains(p.text, "\n#"):
		f.add(at(p.line, p.column), "a text that has a space and # ends there; put it in quotes")
	case strings.HasPrefix(p.text, "- "), strings.HasPrefix(p.text, "? "), p.text == "-":
		f.add(at(p.line, p.column), "%c cannot stand here; put a text that begins with it in quotes", p.text[0])
	case p.dash:
		f.add(at(p.line, p.column), "a line that begins with - goes on with this text; begin a list in the line behind its key, or put the text in quotes")
	}
}

// after returns the token behind token i, nil where there is none.
func (l *located) after(i int) *token.Token {
	if i+1 < len(l.solid) {
		return l.solid[i+1]
	}
	return nil
}

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
	if i := strings.IndexFunc(line, func(r rune) bool { return r != ' ' }); i >= 0 && line[i] == '\t' {
		return i + 1, tabs
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
		return column, fmt.Sprintf("a text cannot begin with %c; put it in quotes", first)
	case first == '\'' && odd(value, `'`):
		return column, "the text in quotes ends before its line does; within single quotes a ' is written ''"
	case first == '"' && odd(value, `"`):
		return column, `the text in quotes ends before its line does; within double quotes a " is written \"`
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
