package routes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

const inQuotes = "a value that begins with {{ is read as a mapping; put it in quotes: '{{…}}'"

// refuse notes what of YAML is not accepted, what the library cannot read, and
// what it must not be given.
func (l *located) refuse(f *findings) {
	var open []bool // the brackets that are open: { or not
	documents, content, done := 0, false, false
	bounds := bounds{f: f}
	for i, t := range l.tokens {
		p, there := l.places[t]
		if !there {
			break
		}
		here := at(p.line, p.column)
		switch t.Type {
		case token.CommentType:
			continue
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
		case token.MappingKeyType:
			f.add(here, "a key that begins with ? is not accepted; write key: value, or put a text that begins with ? in quotes")
		case token.StringType:
			if strings.HasPrefix(t.Value, "%") && (i == 0 || !begins(l.tokens[i-1])) {
				f.add(here, "a text cannot begin with %%; put it in quotes")
			}
		case token.MappingStartType:
			if next := l.after(i); next != nil && next.Type == token.MappingStartType && l.places[next] == (place{line: p.line, column: p.column + 1, exact: true}) && len(open) == 0 {
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
		if !bounds.take(l, i, len(open)) {
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

// begins says whether t is the header of a block.
func begins(t *token.Token) bool {
	return t.Type == token.LiteralType || t.Type == token.FoldedType || t.Type == token.CommentType
}

// after returns the token behind token i, nil where there is none.
func (l *located) after(i int) *token.Token {
	if i+1 < len(l.tokens) {
		return l.tokens[i+1]
	}
	return nil
}

// bounds counts what the library would go into, before it does: it calls itself
// for what is nested, and for each key of a mapping.
type bounds struct {
	f     *findings
	stack []level
	flow  [maxNesting + 1]int // keys of what is open, by how deep it is
}

type level struct {
	column, keys int
	list         bool
}

func (b *bounds) take(l *located, i, open int) bool {
	t := l.tokens[i]
	p := l.places[t]
	if len(b.stack)+open > maxNesting {
		b.f.add(at(p.line, p.column), "this is nested more than %d deep", maxNesting)
		return false
	}
	isList := t.Type == token.SequenceEntryType
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		b.flow[open] = 0
	case token.MappingValueType:
		if open > 0 {
			b.flow[open]++
			return b.few(b.flow[open], p)
		}
		if i == 0 {
			return true
		}
		key, there := l.places[l.tokens[i-1]]
		if !there || key.line != p.line {
			return true
		}
		p = key
	case token.SequenceEntryType:
		if open > 0 {
			return true
		}
	default:
		return true
	}
	for len(b.stack) > 0 {
		top := b.stack[len(b.stack)-1]
		if top.column < p.column || top.column == p.column && (!top.list || isList) {
			break
		}
		b.stack = b.stack[:len(b.stack)-1]
	}
	if top := len(b.stack) - 1; top < 0 || b.stack[top].column != p.column || b.stack[top].list != isList {
		b.stack = append(b.stack, level{column: p.column, list: isList})
	}
	top := &b.stack[len(b.stack)-1]
	top.keys++
	return isList || b.few(top.keys, p)
}

func (b *bounds) few(keys int, p place) bool {
	if keys > maxKeys {
		b.f.add(at(p.line, p.column), "this mapping has more than %d keys", maxKeys)
	}
	return keys <= maxKeys
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
		return i + 1, "a tab cannot indent; use spaces"
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
		return column, "a text that has a colon and a space is read as a key; put it in quotes"
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
