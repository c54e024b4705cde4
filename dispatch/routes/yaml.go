package routes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parse reads the one YAML document of source: the plain part of YAML, of
// mappings with texts as keys, lists and scalars. What is wrong it adds to f. It
// returns nil where nothing can be made of the file.
//
// A scalar is a number, true, false or null where JSON would have it so, and a
// text otherwise: 02134, +15551234 and 1_000 are texts, as they were written.
func parse(source []byte, f *findings) (root *node) {
	before := len(f.list)
	// The library is given whatever bytes there are.
	defer func() {
		if r := recover(); r != nil {
			root = nil
			if len(f.list) == before {
				f.add(nil, "the file cannot be read as YAML (%v)", r)
			}
		}
	}()
	text, ok := readable(source, f)
	if !ok {
		return nil
	}
	l := locate(text, lexer.Tokenize(text))
	if l.refuse(f); len(f.list) > before {
		return nil
	}
	tree, err := parser.Parse(l.tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		l.explain(err, f)
		return nil
	}
	// A document that only comments follow may be counted too.
	docs := slices.DeleteFunc(tree.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	if len(docs) == 0 {
		f.add(nil, "the file is empty; it has at least \"version: 1\" and \"routes:\"")
		return nil
	}
	if len(docs) > 1 {
		f.add(nil, "the file has %d documents; one is accepted: leave out --- and ...", len(docs))
		return nil
	}
	b := builder{located: l, f: f}
	root = b.node(docs[0].Body, at(1, 1), 1)
	if b.nodes > maxNodes {
		f.add(nil, "the file has more than %d values", maxNodes)
		return nil
	}
	return root
}

// builder makes nodes from the library's.
type builder struct {
	*located
	f     *findings
	nodes int
}

// node returns n as a node. owner is where a value that was left out belongs.
func (b *builder) node(n ast.Node, owner *node, depth int) *node {
	b.nodes++
	if depth > maxNesting {
		b.f.add(owner, "this is nested more than %d deep", maxNesting)
		return at(owner.line, owner.column)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return b.mapping(n, n.Values, depth)
	case *ast.MappingValueNode:
		return b.mapping(nil, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		p := b.places[n.Start]
		out := &node{kind: list, line: p.line, column: p.column}
		if n.IsFlowStyle {
			out.style = flow
		}
		for i, v := range n.Values {
			from := out
			if e := n.Entries[i].Start; e != nil && e.Type == token.SequenceEntryType {
				from = at(b.places[e].line, b.places[e].column)
			}
			item := b.node(v, from, depth+1)
			// The library takes a key that stands below an empty item for its value.
			if out.style != flow && item.line > from.line && item.column <= p.column {
				b.f.add(from, "this item of a list is empty; leave it out")
			}
			out.items = append(out.items, item)
		}
		return out
	case *ast.LiteralNode:
		return b.block(n)
	case ast.ScalarNode:
		return b.scalar(n.GetToken(), owner)
	}
	b.f.add(owner, "this cannot be read as YAML (%s)", n.Type())
	return at(owner.line, owner.column)
}

func (b *builder) mapping(n *ast.MappingNode, values []*ast.MappingValueNode, depth int) *node {
	out := &node{kind: mapping}
	if n != nil && n.IsFlowStyle {
		out.style = flow
		out.line, out.column = b.places[n.Start].line, b.places[n.Start].column
	}
	seen := map[string]*node{}
	for _, v := range values {
		switch v.Key.(type) {
		case *ast.StringNode, *ast.BoolNode, *ast.NullNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		default:
			b.f.add(at(b.places[v.Start].line, b.places[v.Start].column), "the key before this colon has to be a text")
			continue
		}
		k := b.scalar(v.Key.GetToken(), out)
		if out.line == 0 {
			out.line, out.column = k.line, k.column
		}
		b.nodes++
		if k.kind != str {
			b.f.add(k, "the key %s has to be a text; put it in quotes: '%[1]s'", k.value)
		}
		if first := seen[k.value]; first != nil {
			b.f.add(k, "the key %q is in line %d already, and again here in line %d; leave one of them out", k.value, first.line, k.line)
			continue
		}
		seen[k.value] = k
		out.keys = append(out.keys, k)
		item := b.node(v.Value, k, depth+1)
		if out.style != flow && item.line > k.line && item.column <= k.column && (item.kind != list || item.column < k.column) {
			b.f.add(item, "this cannot be the value of %s in line %d: it has to be indented more", short(k.value), k.line)
		}
		out.items = append(out.items, item)
	}
	if out.line == 0 {
		out.line, out.column = 1, 1
	}
	return out
}

// doubtful are words that YAML has other kinds for, and JSON has not.
var doubtful = []string{"True", "TRUE", "False", "FALSE", "Null", "NULL"}

// scalar returns the scalar of a token, which is not in the file where a value
// was left out.
func (b *builder) scalar(t *token.Token, owner *node) *node {
	p, there := b.places[t]
	if !there {
		return &node{kind: null, line: owner.line, column: owner.column}
	}
	n := &node{kind: str, style: plain, value: p.text, line: p.line, column: p.column}
	if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		n.style = quoted
	} else {
		n.kind = kindOf(n.value)
		if n.kind == str && slices.Contains(doubtful, n.value) {
			b.f.add(n, "%s is a text in some programs and not in others; write %s, or '%[1]s' for a text", n.value, strings.ToLower(n.value))
			n.kind = kindOf(strings.ToLower(n.value))
		}
	}
	if p.exact {
		n.textLine, n.textColumn = p.line, p.column
		if n.style == quoted {
			n.textColumn++
		}
	}
	b.check(n)
	return n
}

// block returns a text that | or > begins.
func (b *builder) block(l *ast.LiteralNode) *node {
	p := b.places[l.Start]
	n := &node{kind: str, style: literal, line: p.line, column: p.column, textLine: p.line + 1, textColumn: 1}
	if strings.HasPrefix(l.Start.Value, ">") {
		n.style = folded
	}
	if l.Value != nil {
		n.value = b.places[l.Value.Token].text
		n.textColumn = max(1, b.places[l.Value.Token].column)
	}
	b.check(n)
	return n
}

func (b *builder) check(n *node) {
	if strings.ContainsRune(n.value, 0) {
		b.f.add(n, "a text cannot have the character U+0000")
	}
}

// number is a number as JSON has it; its group is what makes it one that is not whole.
var number = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$`)

// kindOf says what a plain scalar is.
func kindOf(s string) kind {
	switch s {
	case "", "~", "null":
		return null
	case "true", "false":
		return boolean
	}
	if m := number.FindStringSubmatch(s); m != nil {
		if m[1] == "" {
			return integer
		}
		return float
	}
	return str
}

// String says what n is, as the middle of a sentence.
func (n *node) String() string {
	switch n.kind {
	case null:
		return "empty"
	case boolean:
		return n.value
	case integer, float:
		return "the number " + n.value
	case list:
		return "a list"
	case mapping:
		return "a mapping"
	}
	return fmt.Sprintf("the text %s", short(n.value))
}

// short quotes s, without its end where it is long.
func short(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%q…", string(r[:most]))
	}
	return fmt.Sprintf("%q", s)
}
