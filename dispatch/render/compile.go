package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

const (
	maxRanges = 2  // within each other
	maxKeys   = 50 // of a path
	maxArgs   = 50 // of a function
)

// compiler checks a parsed template and rewrites it, so that
//
//	.a.b             becomes   (_path $ 0 .)
//	money .total     becomes   money $ 2 (_path $ 1 .)
//	{{money .total}} becomes   {{_print $ 3 (money $ 2 (_path $ 1 .))}}
//	range .list      becomes   range (_range $ 5 (_path $ 4 .))
//
// where $ is the execution and the number is that of a site. On the way it
// follows which path of the scope each value is.
type compiler struct {
	t      *Template
	vars   []variable
	seen   map[string]bool // paths
	nodes  int             // commands so far
	ranges int             // that we are in
}

// origin is the path of the scope that a value was read from.
type origin struct {
	path  []string
	known bool
}

type variable struct {
	name string
	from origin
}

// literal is an argument of a function as far as it is known at load.
type literal struct {
	node  parse.Node // nil when it comes through a pipe
	value any        // string, bool or int64; nil when it is not a literal
}

// compile checks and rewrites tree.
func (t *Template) compile(tree *parse.Tree) (err *Error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	c := &compiler{t: t, seen: map[string]bool{}}
	root := origin{path: []string{}, known: true}
	c.vars = []variable{{"$", root}}
	c.list(tree.Root, root)
	return nil
}

func (c *compiler) fail(pos parse.Pos, format string, args ...any) {
	panic(c.t.at(int(pos), fmt.Sprintf(format, args...)))
}

func (c *compiler) list(list *parse.ListNode, dot origin) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			c.action(n, dot)
		case *parse.IfNode:
			c.branch(&n.BranchNode, dot, func() origin {
				c.assign(n.Pipe, c.pipe(n.Pipe, dot))
				return dot
			})
		case *parse.WithNode:
			c.branch(&n.BranchNode, dot, func() origin {
				value := c.pipe(n.Pipe, dot)
				c.assign(n.Pipe, value)
				return value
			})
		case *parse.RangeNode:
			c.loop(n, dot)
		case *parse.TextNode, *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
			c.nodes++
		case *parse.TemplateNode:
			c.fail(n.Pos, "%s", alone)
		default:
			c.fail(n.Position(), "%s is not accepted", short(n.String()))
		}
	}
}

// branch compiles both sides of a condition. What is declared in one is not seen
// in the other.
func (c *compiler) branch(n *parse.BranchNode, dot origin, head func() origin) {
	outer := len(c.vars)
	inside := head()
	mark := len(c.vars)
	c.list(n.List, inside)
	c.vars = c.vars[:mark]
	c.list(n.ElseList, dot)
	c.vars = c.vars[:outer]
}

func (c *compiler) loop(n *parse.RangeNode, dot origin) {
	if c.ranges++; c.ranges > maxRanges {
		c.fail(n.Pos, "this range is within %d others; at most %d are accepted within each other", c.ranges-1, maxRanges)
	}
	c.listed(n.Pipe)
	i := c.site(n.Pos, "range")
	var before int
	c.branch(&n.BranchNode, dot, func() origin {
		element := c.pipe(n.Pipe, dot).key("[]")
		key := origin{}
		if decl := n.Pipe.Decl; len(decl) == 2 {
			c.declare(n.Pipe, decl[0], key)
			c.declare(n.Pipe, decl[1], element)
		} else if len(decl) == 1 {
			c.declare(n.Pipe, decl[0], element)
		}
		before = c.nodes
		return element
	})
	c.t.sites[i].weight = (c.nodes - before + 1) * workPerNode
	c.wrap(n.Pipe, fnRange, i)
	c.ranges--
}

// listed refuses to range over what cannot be a list.
func (c *compiler) listed(p *parse.PipeNode) {
	for _, cmd := range p.Cmds[len(p.Cmds)-1:] {
		switch n := cmd.Args[0].(type) {
		case *parse.NumberNode, *parse.StringNode, *parse.BoolNode, *parse.NilNode:
			c.fail(n.Position(), "range takes a list of the data, such as .payload.items, and not %s", short(n.String()))
		case *parse.IdentifierNode:
			if f := lookup(n.Ident); f != nil && !f.passes {
				c.fail(n.Pos, "range takes a list of the data, such as .payload.items, and %s does not give one", f.Name)
			}
		case *parse.PipeNode:
			c.listed(n)
		}
	}
}

// key is where the value under a key comes from.
func (o origin) key(name string) origin {
	if !o.known || len(o.path) == maxKeys {
		return origin{}
	}
	return origin{path: append(slices.Clone(o.path), name), known: true}
}

// read notes that the value of o is read.
func (c *compiler) read(o origin) {
	if !o.known {
		return
	}
	id := strconv.Quote(strings.Join(o.path, "\x00"))
	if !c.seen[id] {
		c.seen[id] = true
		c.t.paths = append(c.t.paths, o.path)
	}
}

// assign binds the variables of a pipe that is not a range's.
func (c *compiler) assign(p *parse.PipeNode, value origin) {
	for _, v := range p.Decl {
		c.declare(p, v, value)
	}
}

func (c *compiler) declare(p *parse.PipeNode, v *parse.VariableNode, value origin) {
	name := v.Ident[0]
	if name == "$" {
		c.fail(v.Pos, "$ is the whole of the values and cannot be set; take another name, such as $x")
	}
	if !p.IsAssign {
		c.vars = append(c.vars, variable{name, value})
		return
	}
	// Whether it happens is not known, so from here on neither is the value.
	c.variable(v.Pos, name).from = origin{}
}

func (c *compiler) variable(pos parse.Pos, name string) *variable {
	for i := len(c.vars) - 1; i >= 0; i-- {
		if c.vars[i].name == name {
			return &c.vars[i]
		}
	}
	c.fail(pos, "the variable %s is not set in this block; set it before the block, as in {{%s := .payload.name}}", name, name)
	return nil
}

// site makes a new site and returns its number.
func (c *compiler) site(pos parse.Pos, source string) int {
	c.t.sites = append(c.t.sites, site{offset: int(pos), source: source})
	return len(c.t.sites) - 1
}

// action compiles an action. What it writes goes through _print.
func (c *compiler) action(n *parse.ActionNode, dot origin) {
	value := c.pipe(n.Pipe, dot)
	if len(n.Pipe.Decl) > 0 {
		c.assign(n.Pipe, value)
		return
	}
	last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1]
	if ident, ok := last.Args[0].(*parse.IdentifierNode); ok {
		if f := lookup(ident.Ident); f != nil && f.text {
			return
		}
	}
	if p, ok := last.Args[0].(*parse.PipeNode); ok && len(n.Pipe.Cmds) == 1 {
		if ident, ok := p.Cmds[0].Args[0].(*parse.IdentifierNode); ok && ident.Ident == fnPath {
			ident.Ident = fnPrintPath
			n.Pipe.Cmds = p.Cmds
			return
		}
	}
	c.wrap(n.Pipe, fnPrint, c.site(last.Pos, ""))
}

// wrap puts what p computes through a function, and leaves its variables.
func (c *compiler) wrap(p *parse.PipeNode, function string, i int) {
	inside := &parse.PipeNode{NodeType: parse.NodePipe, Pos: p.Pos, Line: p.Line, Cmds: p.Cmds}
	p.Cmds = []*parse.CommandNode{c.command(p.Pos, function, i, inside)}
}

// command makes the call of a function of ours.
func (c *compiler) command(pos parse.Pos, function string, i int, args ...parse.Node) *parse.CommandNode {
	n := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos}
	n.Args = append([]parse.Node{
		parse.NewIdentifier(function).SetPos(pos),
		&parse.VariableNode{NodeType: parse.NodeVariable, Pos: pos, Ident: []string{"$"}},
		&parse.NumberNode{NodeType: parse.NodeNumber, Pos: pos, IsInt: true, Int64: int64(i), Text: strconv.Itoa(i)},
	}, args...)
	return n
}

func parenthesis(cmd *parse.CommandNode) *parse.PipeNode {
	return &parse.PipeNode{NodeType: parse.NodePipe, Pos: cmd.Pos, Cmds: []*parse.CommandNode{cmd}}
}

// pipe compiles the commands of p and returns where its value comes from. Its
// variables are left to the caller.
func (c *compiler) pipe(p *parse.PipeNode, dot origin) origin {
	var value origin
	for i, cmd := range p.Cmds {
		c.nodes++
		ident, ok := cmd.Args[0].(*parse.IdentifierNode)
		switch {
		case ok:
			value = c.call(cmd, ident, dot, i > 0, value)
		case len(cmd.Args) > 1 || i > 0:
			c.fail(cmd.Pos, "%s is not a function, so nothing can be given to it", short(cmd.Args[0].String()))
		case cmd.Args[0].Type() == parse.NodeNil:
			c.fail(cmd.Pos, "nil alone is not a value here")
		default:
			cmd.Args[0], value = c.value(cmd.Args[0], cmd.Pos, dot)
		}
	}
	return value
}

// value compiles an operand that begins at pos.
func (c *compiler) value(n parse.Node, pos parse.Pos, dot origin) (parse.Node, origin) {
	switch n := n.(type) {
	case *parse.DotNode:
		c.read(dot)
		return n, dot
	case *parse.FieldNode:
		from := &parse.DotNode{NodeType: parse.NodeDot, Pos: pos}
		return c.path(pos, n.String(), from, dot, n.Ident)
	case *parse.VariableNode:
		o := c.variable(pos, n.Ident[0]).from
		if len(n.Ident) == 1 {
			c.read(o)
			return n, o
		}
		from := &parse.VariableNode{NodeType: parse.NodeVariable, Pos: pos, Ident: n.Ident[:1]}
		return c.path(pos, n.String(), from, o, n.Ident[1:])
	case *parse.ChainNode:
		pos := n.Node.Position()
		from, o := c.value(n.Node, pos, dot)
		return c.path(pos, "(…)."+strings.Join(n.Field, "."), from, o, n.Field)
	case *parse.PipeNode:
		mark := len(c.vars)
		o := c.pipe(n, dot)
		if len(n.Decl) > 0 {
			c.fail(n.Pos, "a variable cannot be set within parentheses")
		}
		c.vars = c.vars[:mark]
		return n, o
	case *parse.IdentifierNode:
		cmd := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos, Args: []parse.Node{n}}
		o := c.call(cmd, n, dot, false, origin{})
		return parenthesis(cmd), o
	case *parse.NumberNode:
		return c.constant(n), origin{}
	case *parse.StringNode, *parse.BoolNode, *parse.NilNode:
		return n, origin{}
	}
	c.fail(pos, "%s is not accepted", short(n.String()))
	return nil, origin{}
}

// path makes the steps from a value to the one that fields lead to.
func (c *compiler) path(pos parse.Pos, source string, from parse.Node, o origin, fields []string) (parse.Node, origin) {
	if len(fields) > maxKeys {
		c.fail(pos, "a path may have at most %d keys", maxKeys)
	}
	for _, f := range fields {
		o = o.key(f)
	}
	c.read(o)
	c.nodes++
	i := c.site(pos, source)
	c.t.sites[i].path = fields
	return parenthesis(c.command(pos, fnPath, i, from)), o
}

// constant keeps numbers exact that text/template would make floats of.
func (c *compiler) constant(n *parse.NumberNode) parse.Node {
	if n.IsInt && strings.Trim(n.Text, "+-0123456789") == "" {
		return n
	}
	if _, err := rat(n.Text); err != nil {
		c.fail(n.Pos, "%s is not accepted as a number; write it as 12 or 12.5", short(n.Text))
	}
	cmd := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{
		parse.NewIdentifier(fnNumber).SetPos(n.Pos),
		&parse.StringNode{NodeType: parse.NodeString, Pos: n.Pos, Quoted: strconv.Quote(n.Text), Text: n.Text},
	}}
	return parenthesis(cmd)
}

// call compiles the call of a function.
func (c *compiler) call(cmd *parse.CommandNode, ident *parse.IdentifierNode, dot origin, piped bool, value origin) origin {
	f := lookup(ident.Ident)
	if f == nil {
		c.fail(ident.Pos, "%s", unknown(ident.Ident))
	}
	if len(cmd.Args)-1 > maxArgs {
		c.fail(ident.Pos, "%s is given %s; at most %d are accepted", f.Name, count(len(cmd.Args)-1, "value"), maxArgs)
	}
	c.nodes += len(cmd.Args)
	var args []literal
	var first origin
	for i, n := range cmd.Args[1:] {
		arg := literal{node: n}
		switch n := n.(type) {
		case *parse.StringNode:
			arg.value = n.Text
		case *parse.BoolNode:
			arg.value = n.True
		case *parse.NumberNode:
			if n.IsInt {
				arg.value = n.Int64
			}
		}
		args = append(args, arg)
		node, o := c.value(n, n.Position(), dot)
		cmd.Args[1+i] = node
		if i == 0 {
			first = o
		}
	}
	switch {
	case piped && f.unpiped:
		c.fail(ident.Pos, "%s takes nothing through a pipe; write %s", f.Name, f.Signature)
	case piped && f.inOrder:
		args = append(args, literal{})
	case piped:
		args = append([]literal{{}}, args...)
		first = value
	}
	if len(args) < f.min || f.max >= 0 && len(args) > f.max {
		c.fail(ident.Pos, "%s is given %s; write %s", f.Name, count(len(args), "value"), f.Signature)
	}
	if f.check != nil {
		if at, err := f.check(c.t.set, args); err != nil {
			pos := ident.Pos
			if at < len(args) && args[at].node != nil {
				pos = args[at].node.Position()
			}
			c.fail(pos, "%s: %s", f.Name, err)
		}
	}
	if f.run != nil {
		i := c.site(ident.Pos, f.Name)
		c.t.sites[i].piped = piped
		made := c.command(ident.Pos, f.Name, i, cmd.Args[1:]...)
		cmd.Args = made.Args
	}
	if f.of != nil {
		return f.of(first, args)
	}
	return origin{}
}

func unknown(name string) string {
	switch name {
	case "call", "html", "js", "urlquery":
		return fmt.Sprintf("the function %s is not accepted; there are %s", name, strings.Join(names(), ", "))
	case "now":
		return "there is no function now, since a template says the same at all times; use at for when it is sent, or event.created_at"
	}
	near := nearest(name, names())
	return fmt.Sprintf("there is no function %s; the nearest is %s; there are %s", short(name), near[0], strings.Join(names(), ", "))
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
