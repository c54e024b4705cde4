package routes

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	exprfile "github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// functions of the expression library that are within reach. What repeats,
// builds lists of lists or reads a clock is not: an expression is done in a time
// that grows with what it is given, and no faster.
var functions = []string{
	"len", "all", "any", "one", "none", "count", "filter", "map", "find", "first", "last",
	"split", "trim", "lower", "upper", "indexOf", "hasPrefix", "hasSuffix",
	"int", "float", "string", "abs", "ceil", "floor", "round", "min", "max", "date", "duration",
}

const (
	maxExpression = 4 << 10 // bytes
	maxPattern    = 1000    // instructions of a regular expression

	// What an expression may read that goes through a list: for each item it may
	// go through all else.
	maxListItems = 10_000
	maxListText  = 64 << 10 // bytes
)

// expression is a condition or value of the file.
type expression struct {
	source  string
	program *vm.Program
	paths   [][]string // what it reads, as far as that can be seen
	loops   bool       // it goes through a list
	env     map[string]string
}

// reads reports whether x reads one of names.
func (x *expression) reads(names ...string) bool {
	return x != nil && slices.ContainsFunc(x.paths, func(p []string) bool { return slices.Contains(names, p[0]) })
}

// bare is the path that x is, nil where it is more than one.
func (x *expression) bare() []string {
	if len(x.paths) == 1 && x.source == strings.Join(x.paths[0], ".") && x.paths[0][0] != "now" {
		return x.paths[0]
	}
	return nil
}

// expression compiles t. It returns nil where t is not there or something is
// wrong with it.
func (c *compiler) expression(t text, n known) *expression {
	if t.node == nil {
		return nil
	}
	if len(t.value) > maxExpression {
		c.f.add(t.node, "the expression is longer than %d KiB", maxExpression>>10)
		return nil
	}
	tree, err := parseExpression(t.value)
	if err != nil {
		c.expressionError(t, err)
		return nil
	}
	return c.compileNode(t, tree, n)
}

// parseExpression keeps a panic of the library from being more than an error.
func parseExpression(source string) (tree ast.Node, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it cannot be read")
		}
	}()
	t, err := parser.Parse(source)
	if err != nil {
		return nil, err
	}
	return t.Node, nil
}

// compileNode compiles a part of t.
func (c *compiler) compileNode(t text, tree ast.Node, n known) *expression {
	x := &expression{source: tree.String(), env: c.set.Env}
	v := &visitor{c: c, text: t, names: n, seen: map[*ast.MemberNode]bool{}}
	v.walk(tree, 0)
	if v.bad {
		return nil
	}
	x.paths, x.loops = v.paths, v.loops
	program, err := compile(x.source, x.paths, x.getenv)
	if err != nil {
		c.expressionError(t, err)
		return nil
	}
	x.program = program
	return x
}

// compile compiles an expression that reads paths. It knows no other names: one that
// is also that of a function would hide it.
func compile(source string, paths [][]string, getenv func(...any) (any, error)) (p *vm.Program, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it cannot be read")
		}
	}()
	env := types.Map{"now": types.TypeOf(time.Time{})}
	for _, p := range paths {
		if p[0] != "now" {
			env[p[0]] = types.Any
		}
	}
	options := []expr.Option{
		expr.Env(env), expr.DisableAllBuiltins(),
		expr.Function("env", getenv, new(func(string) string)),
	}
	for _, f := range functions {
		options = append(options, expr.EnableBuiltin(f))
	}
	return expr.Compile(source, options...)
}

func (x *expression) getenv(args ...any) (any, error) { return x.env[args[0].(string)], nil }

func (c *compiler) expressionError(t text, err error) {
	if e, ok := errors.AsType[*exprfile.Error](err); ok {
		what := e.Message
		switch {
		case strings.Contains(t.value, "{{"):
			what = "a condition or value is no template; names stand in it without braces and the first dot, as in visit.status == \"booked\""
		case strings.Contains(what, `unexpected token Operator("=")`):
			what = "to compare takes two equals signs: =="
		case strings.Contains(what, "unexpected token EOF"):
			what = "it ends too early"
			if t.node.style == plain {
				what += "; in YAML a # begins a comment, and an expression with one has to stand in quotes"
			}
		}
		c.f.addAt(t.node, e.Line, e.Column+1, "the expression is wrong: %s", what)
		return
	}
	c.f.add(t.node, "the expression is wrong: %s", err)
}

// visitor finds what an expression reads, and what it must not have.
type visitor struct {
	c     *compiler
	text  text
	names known
	paths [][]string
	seen  map[*ast.MemberNode]bool
	loops bool
	bad   bool
}

func (v *visitor) complain(at ast.Node, format string, args ...any) {
	v.bad = true
	line, column := 1, 1
	for i, r := range []rune(v.text.value) {
		if i >= at.Location().From {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	v.c.f.addAt(v.text.node, line, column, format, args...)
}

// walk looks at n, which stands within so many predicates.
func (v *visitor) walk(n ast.Node, within int) {
	each := func(nodes ...ast.Node) {
		for _, n := range nodes {
			if n != nil {
				v.walk(n, within)
			}
		}
	}
	switch n := n.(type) {
	case *ast.IdentifierNode:
		v.path(n, []string{n.Value})
	case *ast.MemberNode:
		if path, root := memberPath(n); path != nil {
			v.path(root, path)
			return
		}
		each(n.Node, n.Property)
	case *ast.ChainNode:
		each(n.Node)
	case *ast.UnaryNode:
		each(n.Node)
	case *ast.BinaryNode:
		if n.Operator == "matches" {
			v.pattern(n)
		}
		if n.Operator == ".." && (loose(n.Left) || loose(n.Right)) {
			v.complain(n, "?? and ?: beside .. are not accepted; have let or the lookup choose")
		}
		each(n.Left, n.Right)
	case *ast.SliceNode:
		each(n.Node, n.From, n.To)
	case *ast.CallNode:
		if f, ok := n.Callee.(*ast.IdentifierNode); ok && f.Value == "env" {
			v.getenv(n)
			return
		}
		if f, ok := n.Callee.(*ast.IdentifierNode); ok {
			v.complain(n, "there is no function %s; there are env, %s", f.Value, listed(functions))
			return
		}
		v.complain(n, "only functions can be called; there are env, %s", listed(functions))
	case *ast.BuiltinNode:
		if !slices.Contains(functions, n.Name) {
			v.complain(n, "there is no function %s here; there are env, %s", n.Name, listed(functions))
			return
		}
		each(n.Arguments...)
		if n.Map != nil {
			v.walk(n.Map, within+1)
		}
	case *ast.PredicateNode:
		if within > 0 {
			v.complain(n, "a condition on the items of a list within another one is not accepted, since it could take for ever; have a lookup do it")
			return
		}
		v.loops = true
		v.walk(n.Node, within+1)
	case *ast.ConditionalNode:
		each(n.Cond, n.Exp1, n.Exp2)
	case *ast.ArrayNode:
		each(n.Nodes...)
	case *ast.MapNode:
		each(n.Pairs...)
	case *ast.PairNode:
		each(n.Key, n.Value)
	case *ast.VariableDeclaratorNode, *ast.SequenceNode:
		v.complain(n, "variables are not accepted here; let of the route has them")
	}
}

// loose reports whether the library leaves out the parentheses that n needs beside
// .. where it writes an expression down.
func loose(n ast.Node) bool {
	if b, ok := n.(*ast.BinaryNode); ok {
		return b.Operator == "??"
	}
	_, conditional := n.(*ast.ConditionalNode)
	return conditional
}

// pattern looks at the right side of matches. It has to stand in the file, since
// what a pattern costs is its size times that of the text, and each may be large.
func (v *visitor) pattern(n *ast.BinaryNode) {
	s, ok := n.Right.(*ast.StringNode)
	if !ok {
		v.complain(n, `matches takes a pattern in quotes, as in payload.code matches "^[A-Z]{3}$"`)
		return
	}
	tree, err := syntax.Parse(s.Value, syntax.Perl)
	if err != nil {
		return // which the library says
	}
	if p, err := syntax.Compile(tree.Simplify()); err == nil && len(p.Inst) > maxPattern {
		v.complain(n, "the pattern is too large; write a shorter one, with smaller counts in braces")
	}
}

func (v *visitor) getenv(n *ast.CallNode) {
	if len(n.Arguments) == 1 {
		if s, ok := n.Arguments[0].(*ast.StringNode); ok {
			if _, exposed := v.c.set.Env[s.Value]; !exposed {
				v.complain(n, "expose_env does not list %s", strconv.Quote(s.Value))
			}
			return
		}
	}
	v.complain(n, `env takes the name of a variable in quotes, as in env("SITE_URL")`)
}

func (v *visitor) path(at ast.Node, path []string) {
	if path[0] == "now" {
		v.paths = append(v.paths, path)
		v.c.note("now")
		return
	}
	if fault := v.names.fault(path); fault != "" {
		v.complain(at, "%s", fault)
		return
	}
	v.paths = append(v.paths, path)
	v.c.note(path[0])
	v.c.noteCopy(v.names, path)
	v.c.use(v.text, at.Location().From, v.names, path)
}

// memberPath returns the names of a.b.c, and the node of a; nil where it is
// something else.
func memberPath(n *ast.MemberNode) ([]string, ast.Node) {
	var rest []string
	var at ast.Node = n
	for {
		switch m := at.(type) {
		case *ast.ChainNode:
			at = m.Node
		case *ast.MemberNode:
			switch p := m.Property.(type) {
			case *ast.StringNode:
				rest = append(rest, p.Value)
			case *ast.IntegerNode:
				rest = append(rest, "[]")
			default:
				return nil, nil
			}
			at = m.Node
		case *ast.IdentifierNode:
			rest = append(rest, m.Value)
			slices.Reverse(rest)
			return rest, m
		default:
			return nil, nil
		}
	}
}

// value is what x makes of sc.
func (x *expression) value(sc *scope) (v any, err error) {
	if column := sc.lacking(x.paths); column != "" {
		return nil, errors.New(column)
	}
	if large := x.large(sc); large != "" {
		return nil, errors.New(large)
	}
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, errUnsuited
		}
	}()
	v, err = expr.Run(x.program, sc.forExpressions())
	if err != nil {
		return nil, x.unsuited(sc)
	}
	return v, nil
}

// large names what is too large for x to go through; "" where nothing is.
func (x *expression) large(sc *scope) string {
	if !x.loops {
		return ""
	}
	for _, p := range x.paths {
		v, _ := sc.at(p)
		switch v := v.(type) {
		case []any:
			if len(v) > maxListItems {
				return fmt.Sprintf("%s has more than %d items; have a lookup go through them", strings.Join(p, "."), maxListItems)
			}
		case string:
			if len(v) > maxListText {
				return fmt.Sprintf("%s is longer than %d KiB, and is read for each item of a list", strings.Join(p, "."), maxListText>>10)
			}
		}
	}
	return ""
}

var errUnsuited = errors.New("it cannot be computed with these values")

// nullError says which value an expression could not do without.
type nullError struct{ path string }

func (e *nullError) Error() string { return e.path + " is missing or null" }

// unsuited says what kept x from having a value. The library's words are not
// used, since they have values in them.
func (x *expression) unsuited(sc *scope) error {
	for _, p := range x.paths {
		if p[0] == "now" || slices.Contains(p, "[]") {
			continue
		}
		if v, ok := sc.at(p); !ok || plainValue(v) == nil {
			return &nullError{strings.Join(p, ".")}
		}
	}
	return errUnsuited
}

// lacking names a column that a row does not have; "" where there is none. It is
// a mistake of the file, and not a value that is missing.
func (s *scope) lacking(paths [][]string) string {
	for _, p := range paths {
		if len(p) < 2 || !s.isRow[p[0]] {
			continue
		}
		if r, ok := s.values[p[0]].(map[string]any); ok {
			if _, ok := r[p[1]]; !ok {
				return fmt.Sprintf("the row of %s has no column %q", p[0], p[1])
			}
		}
	}
	return ""
}
