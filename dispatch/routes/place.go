package routes

import (
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// place is where a token begins, from 1; columns count characters.
type place struct {
	line, column int
	end          int    // of its characters in the file, the first behind it
	text         string // what it says
	block        bool   // of what | or > begins
	dash         bool   // of a plain text: a line of it behind the first begins with - and a blank
	exact        bool   // of a scalar: its text stands in the file as it is, in one line
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
	solid   token.Tokens // those that are no comments
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
	for _, t := range tokens {
		if t.Type != token.CommentType {
			l.solid = append(l.solid, t)
		}
	}
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
			p.text, p.exact, ok = c.quoted(t.Type == token.DoubleQuoteType)
		case token.StringType:
			if header == nil {
				from := c.i
				p.text, p.exact, ok = c.value(t.Value)
				p.dash = dashed.MatchString(string(l.text[from:c.i]))
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
			p = place{line: l.places[header].line + 1, column: p.column - more, block: true}
			indent := p.column - 1
			if solid(t.Value) == "" {
				p.column, indent = 1, len(l.text) // no line is part of it that is not blank
			}
			p.text = blockText(header.Value, l.lines[p.line-1:], indent)
			_, _, ok = c.value(p.text)
			ok = ok && solid(p.text) == solid(t.Value)
		default:
			p.text, p.exact, ok = c.value(t.Value)
		}
		if !ok {
			l.lost = at(p.line, p.column)
			return l
		}
		p.end = c.i
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

var dashed = regexp.MustCompile(`\n[ \t]*-(?:\s|$)`)

func blank(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }

// solid is s without its blanks.
func solid(s string) string {
	return strings.Map(func(r rune) rune {
		if blank(r) {
			return -1
		}
		return r
	}, s)
}

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

// value goes behind value, whose blanks need not be those of the file. It returns
// what the file says there, and whether it says so in those characters and one
// line.
func (c *cursor) value(value string) (says string, exact, ok bool) {
	from, line := c.i, c.line
	for _, r := range value {
		if blank(r) {
			continue
		}
		c.blanks()
		if !c.sees(r) {
			return "", false, false
		}
		c.step()
	}
	says, _ = flowText(c.text[from:c.i], 0)
	return says, line == c.line, true
}

// quoted goes behind a text in quotes, and returns as value does.
func (c *cursor) quoted(double bool) (says string, exact, ok bool) {
	quote := '\''
	if double {
		quote = '"'
	}
	if !c.sees(quote) {
		return "", false, false
	}
	c.step()
	from, line, column := c.i, c.line, c.column
	for ; c.i < len(c.text); c.step() {
		switch {
		case c.sees('\\') && double:
			c.step()
		case c.sees(quote) && !double && c.i+1 < len(c.text) && c.text[c.i+1] == quote:
			c.step()
		case c.sees(quote):
			raw := c.text[from:c.i]
			c.step()
			says, bad := flowText(raw, quote)
			if bad >= 0 {
				before := cursor{located: c.located, i: from, line: line, column: column}
				for before.i < from+bad {
					before.step()
				}
				c.escapes = append(c.escapes, at(before.line, before.column))
			}
			return says, says == string(raw), true
		}
	}
	return "", false, false
}
