// Package query runs the SQL that routes are written in: with named parameters
// that are bound from the event, and never spliced into the text.
package query

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Query is one statement whose parameters have names.
type Query struct {
	source    string
	statement string // with $1, $2, …
	params    []Param
	spots     []spot
}

// Param is a parameter, at the first place where it stands.
type Param struct {
	Path         []string // ["quoteId"], ["payload", "scheduling", "date"]
	List         bool     // its cast ends in "[]": a list becomes a Postgres array, not JSON
	Optional     bool     // written with a "?" behind the name: it may be missing
	Line, Column int      // from 1, in the source; columns count characters
}

// Name is the path as it stands in the statement, without the colon.
func (p Param) Name() string { return strings.Join(p.Path, ".") }

// spot is one place where a name was replaced by a number, in bytes.
type spot struct{ source, sourceLen, statement, statementLen int }

// Error says what is wrong with a statement, and where.
type Error struct {
	Line, Column int // from 1
	Message      string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// MaxLength bounds a statement, in bytes.
const MaxLength = 64 << 10

// Parse reads one statement. A parameter is a colon with a name, or with names
// joined by dots: ":quoteId", ":payload.scheduling.date". With a "?" directly
// behind it, as in ":notes?", it may be missing. Not parameters are what stands in
// quotes and comments, "::" before a type, ":=", and the colon of a slice within
// brackets. The error is an *Error.
func Parse(source string) (*Query, error) {
	if len(source) > MaxLength {
		return nil, &Error{1, 1, fmt.Sprintf("the statement is %d bytes long; at most %d are accepted", len(source), MaxLength)}
	}
	p := &parser{source: source, q: &Query{source: source}, number: map[string]int{}}
	if !utf8.ValidString(source) || strings.ContainsRune(source, 0) {
		return nil, p.errorAt(0, "the statement is not UTF-8 text")
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	p.q.statement = p.out.String()
	return p.q, nil
}

type parser struct {
	source string
	at     int
	out    strings.Builder
	q      *Query
	number map[string]int
	nested []byte // open brackets
	ended  bool   // a semicolon came
	any    bool   // something stood there
}

func (p *parser) run() error {
	for p.at < len(p.source) {
		rest := p.source[p.at:]
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "--"):
			p.copy(until(rest, "\n"))
			continue
		case strings.HasPrefix(rest, "/*"):
			n := commentEnd(rest)
			if n < 0 {
				return p.errorAt(p.at, `the comment has no end; needed is "*/"`)
			}
			p.copy(n)
			continue
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			p.copy(1)
			continue
		case c == ';':
			p.ended = true
			p.at++ // left out: the statement is put into another one
			continue
		case p.ended:
			return p.errorAt(p.at, "a second statement; one is accepted")
		}
		p.any = true
		if err := p.token(rest); err != nil {
			return err
		}
	}
	if !p.any {
		return p.errorAt(0, "there is no statement")
	}
	return nil
}

// token takes what is neither space nor comment.
func (p *parser) token(rest string) error {
	switch c := rest[0]; {
	case c == '\'':
		return p.quoted(rest, 0, '\'', false)
	case c == '"':
		return p.quoted(rest, 0, '"', false)
	case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
		return p.quoted(rest, 1, '\'', true)
	case c == '$':
		return p.dollar(rest)
	case wordStart(c):
		p.copy(wordLen(rest))
	case c >= '0' && c <= '9':
		p.copy(wordLen(rest)) // "1e5", and no "$" in it
	case c == '(' || c == '[':
		p.nested = append(p.nested, c)
		p.copy(1)
	case c == ')' || c == ']':
		if n := len(p.nested); n > 0 {
			p.nested = p.nested[:n-1]
		}
		p.copy(1)
	case strings.HasPrefix(rest, "::"), strings.HasPrefix(rest, ":="):
		p.copy(2)
	case c == ':' && (len(p.nested) == 0 || p.nested[len(p.nested)-1] != '['):
		return p.param(rest)
	default:
		p.copy(1)
	}
	return nil
}

func (p *parser) copy(n int) {
	p.out.WriteString(p.source[p.at : p.at+n])
	p.at += n
}

// quoted takes a literal or name in quotes that begins at from.
func (p *parser) quoted(rest string, from int, quote byte, escapes bool) error {
	for i := from + 1; i < len(rest); i++ {
		switch {
		case escapes && rest[i] == '\\':
			i++
		case rest[i] == quote && i+1 < len(rest) && rest[i+1] == quote:
			i++
		case rest[i] == quote:
			p.copy(i + 1)
			return nil
		}
	}
	return p.errorAt(p.at, fmt.Sprintf("the quote has no end; needed is another %c", quote))
}

// dollar takes $tag$ … $tag$.
func (p *parser) dollar(rest string) error {
	n := 1
	for n < len(rest) && (wordStart(rest[n]) || n > 1 && rest[n] >= '0' && rest[n] <= '9') && rest[n] != '$' {
		n++
	}
	if n < len(rest) && rest[n] == '$' {
		tag := rest[:n+1]
		end := strings.Index(rest[n+1:], tag)
		if end < 0 {
			return p.errorAt(p.at, "the text has no end; needed is "+tag)
		}
		p.copy(n + 1 + end + len(tag))
		return nil
	}
	return p.errorAt(p.at, "a parameter by number; parameters have names here, such as :quoteId")
}

func (p *parser) param(rest string) error {
	n := 1
	for {
		word := wordLen(rest[n:])
		if word == 0 || !wordStart(rest[n]) {
			return p.errorAt(p.at, "a colon without a name; a parameter is written :name")
		}
		n += word
		if n+1 >= len(rest) || rest[n] != '.' || !wordStart(rest[n+1]) {
			break
		}
		n++
	}
	name := rest[1:n]
	if strings.Contains(name, "$") {
		return p.errorAt(p.at, "a parameter's name has letters, digits and _ only")
	}
	optional := optionalMark(rest[n:])
	if optional {
		n++
	}
	number, known := p.number[name]
	list := listCast(rest[n:])
	if !known {
		line, column := p.place(p.at)
		p.q.params = append(p.q.params, Param{Path: strings.Split(name, "."), List: list, Optional: optional, Line: line, Column: column})
		number = len(p.q.params)
		p.number[name] = number
	} else if p.q.params[number-1].List != list {
		return p.errorAt(p.at, fmt.Sprintf("the parameter :%s has a cast to an array in one place and none in another; needed is the same in both", name))
	} else if p.q.params[number-1].Optional != optional {
		return p.errorAt(p.at, fmt.Sprintf("the parameter :%s has a ? in one place and none in another; needed is the same in both", name))
	}
	text := fmt.Sprintf("$%d", number)
	p.q.spots = append(p.q.spots, spot{p.at, n, p.out.Len(), len(text)})
	p.out.WriteString(text)
	p.at += n
	if p.at < len(p.source) && p.source[p.at] >= '0' && p.source[p.at] <= '9' {
		p.out.WriteByte(' ')
	}
	return nil
}

// optionalMark reports whether rest begins with the mark of a parameter that may
// be missing, and not with one of Postgres's operators ?, ?| and ?&, which have a
// blank before them.
func optionalMark(rest string) bool {
	return strings.HasPrefix(rest, "?") && !strings.HasPrefix(rest, "?|") && !strings.HasPrefix(rest, "?&")
}

// listCast reports whether a cast to an array stands at the start of rest.
func listCast(rest string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " "), "::")
	if !ok {
		return false
	}
	rest = strings.TrimLeft(rest, " ")
	end := strings.IndexFunc(rest, func(r rune) bool {
		return r != '.' && r != '_' && r != '"' && (r > 127 || !wordStart(byte(r)) && (r < '0' || r > '9'))
	})
	return end > 0 && strings.HasPrefix(rest[end:], "[]")
}

func wordStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

// wordLen is the length of the word at the start of s. A "$" within a word does
// not begin anything.
func wordLen(s string) int {
	for i := range len(s) {
		if c := s[i]; !wordStart(c) && (c < '0' || c > '9') && c != '$' {
			return i
		}
	}
	return len(s)
}

// until is the length of s up to and including the first end, or all of it.
func until(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

// commentEnd is the length of the comment at the start of s, with those within
// it, or -1.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

func (p *parser) errorAt(at int, message string) *Error {
	line, column := p.place(at)
	return &Error{line, column, message}
}

func (p *parser) place(at int) (line, column int) { return place(p.source, at) }

// place turns an offset in bytes into line and column, both from 1.
func place(s string, at int) (line, column int) {
	before := s[:min(at, len(s))]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

// Params returns the parameters in the order of their numbers.
func (q *Query) Params() []Param { return q.params }

// Source is the statement as it was written.
func (q *Query) Source() string { return q.source }

// placeOf turns a position that the database gave, in characters from 1 within
// the statement behind offset bytes of ours, into line and column of the source.
func (q *Query) placeOf(position, offset int, whole string) (line, column int) {
	at := 0
	for i := range whole {
		if position--; position == 0 {
			at = i
			break
		}
	}
	at -= offset
	if at < 0 {
		return 1, 1
	}
	shift := 0
	for _, s := range q.spots {
		if at < s.statement {
			break
		}
		if at < s.statement+s.statementLen {
			return place(q.source, s.source)
		}
		shift = s.source + s.sourceLen - (s.statement + s.statementLen)
	}
	return place(q.source, at+shift)
}
