package routes

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// place is where a token begins, from 1; columns count characters.
type place struct {
	line, column int
	exact        bool // of a scalar: its text stands in the file as it is, in one line
}

// located is a file's tokens with where they stand.
//
// The library's own positions are not used: those of a text in several lines
// are off by its trailing blanks, those of a block are its end, and columns
// behind escapes and tags drift. Instead the tokens are found in the text again,
// one behind the other: a token is all of its characters, and between tokens
// there is nothing but blanks. So a file in which the library lost something is
// noticed, too.
type located struct {
	text    []rune
	lines   []string
	tokens  token.Tokens
	places  map[*token.Token]place
	invalid *token.Token // what the library cannot read; its place is known
	lost    *node        // where tokens and text part, nil where they do not
	escapes []*node      // escapes in double quotes that mean no character
}

func locate(text string, tokens token.Tokens) *located {
	l := &located{
		text:   []rune(text),
		lines:  strings.Split(text, "\n"),
		tokens: tokens,
		places: make(map[*token.Token]place, len(tokens)),
	}
	c := cursor{located: l, line: 1, column: 1}
	var header *token.Token // that of a block whose text is next
	for _, t := range tokens {
		c.blanks()
		p := place{line: c.line, column: c.column}
		ok := true
		switch t.Type {
		case token.InvalidType:
			l.invalid, l.places[t] = t, p
			return l
		case token.CommentType:
			if ok = c.sees('#'); ok {
				c.restOfLine()
			}
		case token.SingleQuoteType, token.DoubleQuoteType:
			p.exact, ok = c.quoted(t)
		case token.StringType:
			if header == nil {
				p.exact, ok = c.value(t.Value)
				break
			}
			// A block's text begins in the line behind its header. How far it is
			// indented is what its first line that is not blank has more before it in
			// the file than in the text.
			more := 0
			for _, r := range t.Value {
				if !blank(r) {
					break
				}
				if more++; r == '\n' {
					more = 0
				}
			}
			p = place{line: l.places[header].line + 1, column: p.column - more}
			if strings.Trim(t.Value, " \t\n") == "" {
				p.column = 1
			}
			_, ok = c.value(t.Value)
		default:
			p.exact, ok = c.value(t.Value)
		}
		if !ok {
			l.lost = at(p.line, p.column)
			return l
		}
		l.places[t] = p
		switch t.Type {
		case token.CommentType:
		case token.LiteralType, token.FoldedType:
			header = t
		default:
			header = nil
		}
	}
	if c.blanks(); c.i < len(l.text) {
		l.lost = at(c.line, c.column)
	}
	return l
}

func blank(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }

// cursor is a place in the text, before character i.
type cursor struct {
	*located
	i            int
	line, column int
}

func (c *cursor) sees(r rune) bool { return c.i < len(c.text) && c.text[c.i] == r }

func (c *cursor) step() {
	if c.sees('\n') {
		c.line, c.column = c.line+1, 0
	}
	c.i++
	c.column++
}

func (c *cursor) blanks() {
	for c.i < len(c.text) && blank(c.text[c.i]) {
		c.step()
	}
}

func (c *cursor) restOfLine() {
	for c.i < len(c.text) && !c.sees('\n') {
		c.step()
	}
}

// value goes behind value, whose blanks need not be those of the text. It says
// whether they are, and whether the value is there at all.
func (c *cursor) value(value string) (exact, ok bool) {
	from, line := c.i, c.line
	for _, r := range value {
		if blank(r) {
			continue
		}
		c.blanks()
		if !c.sees(r) {
			return false, false
		}
		c.step()
	}
	return line == c.line && string(c.text[from:c.i]) == value, true
}

// quoted goes behind the quoted text of t.
func (c *cursor) quoted(t *token.Token) (exact, ok bool) {
	quote := '\''
	if t.Type == token.DoubleQuoteType {
		quote = '"'
	}
	if !c.sees(quote) {
		return false, false
	}
	c.step()
	from := c.i
	for ; c.i < len(c.text); c.step() {
		switch {
		case c.sees('\\') && quote == '"':
			if digits := hexDigits(c.text[c.i+1:]); digits > 0 && !c.character(digits) {
				c.escapes = append(c.escapes, at(c.line, c.column))
			}
			c.step()
		case c.sees(quote):
			if quote == '"' || c.i+1 == len(c.text) || c.text[c.i+1] != quote {
				exact = string(c.text[from:c.i]) == t.Value
				c.step()
				return exact, true
			}
			c.step()
		}
	}
	return false, false
}

// hexDigits says how many digits an escape has, by what stands behind its \.
func hexDigits(s []rune) int {
	if len(s) > 0 {
		switch s[0] {
		case 'x':
			return 2
		case 'u':
			return 4
		case 'U':
			return 8
		}
	}
	return 0
}

// character says whether the escape here, which has that many digits, means one.
func (c *cursor) character(digits int) bool {
	code, ok := hex(c.text[c.i+2:], digits)
	const low, end = 0xdc00, 0xe000
	switch {
	case !ok || code > 0x10ffff || code >= low && code < end && !c.behindHigh():
		return false
	case code >= 0xd800 && code < low:
		rest := c.text[c.i+2+digits:]
		if digits != 4 || len(rest) < 2 || rest[0] != '\\' || rest[1] != 'u' {
			return false
		}
		second, ok := hex(rest[2:], 4)
		return ok && second >= low && second < end
	}
	return true
}

// behindHigh says whether the six characters before are an escape for the first
// half of a pair.
func (c *cursor) behindHigh() bool {
	if c.i < 6 || string(c.text[c.i-6:c.i-4]) != `\u` {
		return false
	}
	code, ok := hex(c.text[c.i-4:], 4)
	return ok && code >= 0xd800 && code < 0xdc00
}

func hex(s []rune, digits int) (code uint32, ok bool) {
	if len(s) < digits {
		return 0, false
	}
	for _, r := range s[:digits] {
		i := strings.IndexRune("0123456789abcdef", r|0x20)
		if i < 0 || r < '0' {
			return 0, false
		}
		code = code<<4 | uint32(i)
	}
	return code, true
}
