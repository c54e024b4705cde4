package routes

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

const (
	inQuotes = "a value that begins with {{ is read as a mapping; put it in quotes: '{{…}}'"
	colon    = "a text that has a colon and a space is read as a key; put it in quotes"
	tabs     = "a tab cannot indent; use spaces"

	cannotBegin = "a text cannot begin with %c; put it in quotes"
)

// refuse notes what of YAML is not accepted, what the library cannot read, and
// what it must not be given.
func (l *located) refuse(f *findings) {
	r := refusal{located: l, f: f, bounds: bounds{f: f}}
	for i, t := range l.solid {
		p, there := l.places[t]
		if !there {
			break
		}
		if !r.mark(t, p) || !r.token(i, t, p) || !r.bounds.take(l, i, r.open) || len(f.list) > maxProblems {
			return
		}
		r.line = p.line
	}
	for _, e := range l.escapes {
		f.add(e, "this escape is no character; use single quotes, where a backslash is itself")
	}
	if l.lost != nil && len(f.list) == 0 {
		l.explainAt("", place{line: l.lost.line, column: l.lost.column}, f)
	}
}

// refusal goes through the tokens of a file.
type refusal struct {
	*located
	f      *findings
	bounds bounds
	open   []bracket // those that are open
	line   int       // of the token before

	headers       int  // --- so far
	content, done bool // whether there was anything else, and ...
	told          int  // the line that is known to be misread, about which no more is said
}

type bracket struct {
	mapping      bool // { and not [
	line, column int
}

func (r *refusal) add(p place, format string, args ...any) {
	if p.line != r.told {
		r.f.add(at(p.line, p.column), format, args...)
	}
}

// mark takes what begins and ends documents. It returns false where what follows
// has to be mended first.
func (r *refusal) mark(t *token.Token, p place) bool {
	switch t.Type {
	case token.DocumentHeaderType:
		if r.headers++; r.headers > 1 || r.content {
			r.add(p, "a second document begins here; one is accepted: leave the --- out")
			return false
		}
	case token.DocumentEndType:
		r.done = true
	case token.DirectiveType:
		if p.column == 1 {
			r.add(p, "a directive is not accepted; leave the line out")
		} else {
			r.add(p, cannotBegin, '%')
		}
		return false
	default:
		if r.content = true; r.done {
			r.add(p, "this stands behind the end of the document; leave the ... out")
			return false
		}
	}
	return true
}

// token takes token i. It returns false where what follows cannot be understood.
func (r *refusal) token(i int, t *token.Token, p place) bool {
	if t.Type == token.InvalidType {
		if p.line != r.told {
			r.explainAt(t.Error, p, r.f)
		}
		return false
	}
	first := p.line != r.line && !p.block
	inside := len(r.open) > 0
	if column := tabbed(r.located.line(p.line)); first && !inside && column > 0 {
		r.add(place{line: p.line, column: column}, tabs)
		return false
	}
	switch t.Type {
	case token.AnchorType:
		r.add(p, "an anchor (&) is not accepted; write the value where it is needed, or put a text that begins with & in quotes")
	case token.AliasType:
		r.add(p, "an alias (*) is not accepted; write the value itself, or put a text that begins with * in quotes")
	case token.MergeKeyType:
		r.add(p, "a merge key (<<) is not accepted; write the keys themselves")
	case token.TagType:
		r.add(p, "a tag (%s) is not accepted; leave it out, or put a text that begins with ! in quotes", t.Value)
	case token.MappingKeyType:
		r.add(p, "a key that begins with ? is not accepted; write key: value, or put a text that begins with ? in quotes")
	case token.LiteralType, token.FoldedType:
		if inside {
			r.add(p, "a block cannot stand in braces or brackets; put the text in quotes")
		}
	case token.SequenceEntryType:
		if !inside {
			break
		}
		if last := r.open[len(r.open)-1]; first && last.line < p.line {
			r.add(place{line: last.line, column: last.column}, "this bracket is still open where a list begins in line %d; close it", p.line)
			return false
		}
		r.add(p, "a list with - cannot stand in braces or brackets; write it in brackets, or put a text that begins with - in quotes")
	case token.StringType:
		if !p.block {
			r.plain(p)
		}
	case token.MappingValueType:
		if inside && i > 0 && p.end < len(r.text) && !strings.ContainsRune(" \t\n,[]{}", r.text[p.end]) && r.solid[i-1].Indicator != token.QuotedScalarIndicator {
			r.add(p, "a colon that ends a key is followed by a space; put a text that has a colon in quotes")
		}
	case token.MappingStartType:
		if next := r.after(i); !inside && next != nil && next.Type == token.MappingStartType && r.places[next].line == p.line && r.places[next].column == p.column+1 {
			r.add(p, inQuotes)
			r.told = p.line
		}
		r.open = append(r.open, bracket{true, p.line, p.column})
	case token.SequenceStartType:
		r.open = append(r.open, bracket{false, p.line, p.column})
	case token.MappingEndType, token.SequenceEndType:
		r.open = r.open[:max(0, len(r.open)-1)]
	}
	return true
}

// plain notes what the library takes for a plain text, or for more of it, and
// YAML does not, or no person would.
func (r *refusal) plain(p place) {
	switch {
	case p.text == "":
	case strings.ContainsRune(",[]{}#&*!|>'\"%@`", rune(p.text[0])):
		r.add(p, cannotBegin, p.text[0])
	case strings.Contains(p.text, ": "), strings.Contains(p.text, ":\n"), strings.HasSuffix(p.text, ":"):
		r.add(p, colon)
	case strings.Contains(p.text, " #"), strings.Contains(p.text, "\n#"):
		r.add(p, "a text that has a space and # ends there; put it in quotes")
	case strings.HasPrefix(p.text, "- "), strings.HasPrefix(p.text, "? "), p.text == "-":
		r.add(p, "%c cannot stand here; put a text that begins with it in quotes", p.text[0])
	case p.dash:
		r.add(p, "a line that begins with - goes on with this text; begin a list in the line behind its key, or put the text in quotes")
	}
}

// after returns the token behind token i, nil where there is none.
func (l *located) after(i int) *token.Token {
	if i+1 < len(l.solid) {
		return l.solid[i+1]
	}
	return nil
}
