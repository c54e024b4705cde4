package routes

import "github.com/goccy/go-yaml/token"

// bounds counts what the library would go into, before it does: it calls itself
// for what is nested, and for each key of a mapping, and moves all tokens behind
// a value that was left out.
type bounds struct {
	f     *findings
	stack []level
	flow  [maxNesting + 1]int // colons and commas of what is open, by how deep it is: two a key
	empty int
}

type level struct {
	column, keys int
	list         bool
}

// take counts token i, brackets being those that are open behind it. It returns
// false where a bound is passed.
func (b *bounds) take(l *located, i int, brackets []bracket) bool {
	t, open := l.solid[i], len(brackets)
	p := l.places[t]
	if len(b.stack)+open > maxNesting {
		b.f.add(at(p.line, p.column), "this is nested more than %d deep", maxNesting)
		return false
	}
	if l.empty(i) {
		if b.empty++; b.empty > maxKeys {
			b.f.add(at(p.line, p.column), "the file has more than %d keys and items without a value", maxKeys)
			return false
		}
	}
	isList := t.Type == token.SequenceEntryType
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		b.flow[open] = 0
	case token.CollectEntryType:
		if open > 0 && brackets[open-1].mapping {
			b.flow[open]++
			return b.few(b.flow[open]/2, p)
		}
		return true
	case token.MappingValueType:
		if open > 0 {
			b.flow[open]++
			return b.few(b.flow[open]/2, p)
		}
		if i == 0 {
			return true
		}
		key, there := l.places[l.solid[i-1]]
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

// empty says whether a value was left out at token i.
func (l *located) empty(i int) bool {
	t, next := l.solid[i], l.after(i)
	p, q := l.places[t], l.places[next]
	switch t.Type {
	case token.SequenceEntryType:
		return next == nil || q.line > p.line && q.column <= p.column
	case token.MappingValueType:
		switch {
		case next == nil || ends(next):
			return true
		case i == 0:
			return false
		}
		key := l.places[l.solid[i-1]]
		return q.line > p.line && (q.column < key.column || q.column == key.column && next.Type != token.SequenceEntryType)
	case token.CollectEntryType, token.MappingEndType:
		if i < 2 {
			return false
		}
		before := l.solid[i-2].Type
		return before == token.CollectEntryType || before == token.MappingStartType
	}
	return false
}

// ends says whether t ends an entry in brackets.
func ends(t *token.Token) bool {
	return t.Type == token.CollectEntryType || t.Type == token.MappingEndType || t.Type == token.SequenceEndType
}
