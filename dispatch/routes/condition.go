package routes

import (
	"errors"
	"fmt"

	"github.com/expr-lang/expr/ast"
)

// condition is a when. Its and and or are ours: a part that lacks a value is
// neither true nor false, as in SQL, and the part that failed can be named.
type condition struct {
	op          string // "and", "or"; "" for a leaf
	left, right *condition
	leaf        *expression
}

// condition compiles t; nil where t is not there or something is wrong with it.
func (c *compiler) condition(t text, n known) *condition {
	if t.node == nil {
		return nil
	}
	whole := c.expression(t, n) // all problems of it at once
	if whole == nil {
		return nil
	}
	tree, err := parseExpression(t.value)
	if err != nil {
		return nil
	}
	return c.clause(t, tree, n)
}

func (c *compiler) clause(t text, tree ast.Node, n known) *condition {
	if b, ok := tree.(*ast.BinaryNode); ok {
		op := map[string]string{"and": "and", "&&": "and", "or": "or", "||": "or"}[b.Operator]
		if op != "" {
			left, right := c.clause(t, b.Left, n), c.clause(t, b.Right, n)
			if left == nil || right == nil {
				return nil
			}
			return &condition{op: op, left: left, right: right}
		}
	}
	quiet := &compiler{f: &findings{}, set: c.set} // it is known to be right
	x := quiet.compileNode(t, tree, n)
	if x == nil {
		return nil
	}
	return &condition{leaf: x}
}

// reads reports whether c reads one of names.
func (c *condition) reads(names ...string) bool {
	switch {
	case c == nil:
		return false
	case c.leaf != nil:
		return c.leaf.reads(names...)
	}
	return c.left.reads(names...) || c.right.reads(names...)
}

// roots calls f with the names that c reads.
func (c *condition) roots(f func(string)) {
	switch {
	case c == nil:
	case c.leaf != nil:
		for _, p := range c.leaf.paths {
			f(p[0])
		}
	default:
		c.left.roots(f)
		c.right.roots(f)
	}
}

// truth is the value of a condition.
type truth int

const (
	no truth = iota
	unknown
	yes
)

// holds says whether c holds for sc, and where not, which part of it failed. An
// error says that the condition itself is wrong. A nil condition holds.
func (c *condition) holds(sc *scope) (ok bool, failed string, err error) {
	if c == nil {
		return true, "", nil
	}
	t, failed, err := c.eval(sc)
	return t == yes, failed, err
}

func (c *condition) eval(sc *scope) (truth, string, error) {
	if c.leaf != nil {
		return c.leaf.truth(sc)
	}
	left, why, err := c.left.eval(sc)
	if err != nil || c.op == "and" && left == no || c.op == "or" && left == yes {
		return left, why, err
	}
	right, whyRight, err := c.right.eval(sc)
	if err != nil {
		return no, whyRight, err
	}
	if c.op == "and" {
		if left == yes || right == no {
			why = whyRight
		}
		return min(left, right), why, nil
	}
	if right == yes {
		return yes, "", nil
	}
	return max(left, right), why + ", " + whyRight, nil
}

// truth is what x says, and if that is not yes, how it reads.
func (x *expression) truth(sc *scope) (truth, string, error) {
	v, err := x.value(sc)
	if missing, ok := errors.AsType[*nullError](err); ok {
		return unknown, fmt.Sprintf("%s (%v)", x.source, missing), nil
	}
	if err != nil {
		return no, "", fmt.Errorf("%s: %w", x.source, err)
	}
	b, ok := v.(bool)
	switch {
	case v == nil:
		return unknown, x.source + " (it is null)", nil
	case !ok:
		return no, "", fmt.Errorf("%s: it is neither true nor false", x.source)
	case b:
		return yes, "", nil
	}
	return no, x.source, nil
}
