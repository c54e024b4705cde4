// Package routes reads routes.yaml, the file in which an app team says what each
// event becomes, and plans events by it.
//
// It knows nothing of queues: a route becomes dispatch.Messages, whose Terms say
// when they are due, what they replace and what they wait for.
package routes

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// Options are what a routes file is read with. The zero value has no variables.
type Options struct {
	// Env looks up an environment variable; nil means that none is set. Only
	// those that expose_env and credentials name are asked for.
	Env func(name string) (string, bool)
}

func (o Options) lookup(name string) string {
	if o.Env == nil {
		return ""
	}
	v, _ := o.Env(name)
	return v
}

// Routes is a routes file that was found good. It is not changed any more, and
// may be used by many goroutines.
type Routes struct {
	file       *file
	list       []*compiledRoute
	uses       []Use
	lookups    []Lookup
	statements []Statement
	channels   []ChannelUse
	ordered    []string // the event types of routes with an ordering_key
}

// Load reads a routes file; name is what problems call it. Its error is a
// *Problems, with everything that is wrong.
func Load(name string, source []byte, o Options) (*Routes, error) {
	f := &findings{}
	root := parse(source, f)
	if root == nil {
		return nil, f.problems(name)
	}
	decoded := decode(root, f)
	if decoded == nil {
		return nil, f.problems(name)
	}
	c := &compiler{f: f, r: &Routes{file: decoded}, set: &render.Set{Env: map[string]string{}}}
	c.file(decoded, o)
	if err := f.problems(name); err != nil {
		return nil, err
	}
	return c.r, nil
}

// compiler turns a file into Routes. It goes on after a problem.
type compiler struct {
	f     *findings
	r     *Routes
	set   *render.Set
	route *compiledRoute // the one that is being compiled
	lets  []let          // those of the file, which all routes have

	reads, fields []string // what the step that is being compiled reads, of the scope and of copy
}

type compiledRoute struct {
	name    string
	events  []string
	lookups []*compiledLookup
	when    *condition
	early   bool // when needs no lookup
	lets    []let
	copy    *compiledCopy
	steps   []*compiledStep
	cancels []compiledCancel

	ordering *template // nil: no order
}

type compiledLookup struct {
	Lookup
	args []argument
	kind string // one, optional, many
}

type let struct {
	name string
	tmpl *template
}

type compiledCancel struct {
	steps []string
	key   *expression
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// ownNames are what a lookup or let cannot be called.
var ownNames = []string{"payload", "event", "copy", "item", "steps", "now", "let", "env", "true", "false", "nil", "not", "and", "or", "in"}

func (c *compiler) file(f *file, o Options) {
	if f.Version != 1 && len(c.f.list) == 0 {
		c.f.add(nil, "the version has to be 1")
	}
	for _, v := range f.ExposeEnv {
		if v.node != nil {
			c.set.Env[v.value] = o.lookup(v.value)
		}
	}
	if z := f.Defaults.Timezone; z.node != nil {
		zone, err := time.LoadLocation(z.value)
		if err != nil || z.value == "Local" || z.value == "" {
			c.f.add(z.node, "there is no time zone %q; it has to be a name such as America/New_York", shortened(z.value))
		}
		c.set.Zone = zone
	}
	if r := f.Defaults.Region; r.node != nil {
		if !regexp.MustCompile(`^[A-Z]{2}$`).MatchString(r.value) {
			c.f.add(r.node, "the region %q has to be the two capital letters of a country, such as US", shortened(r.value))
		}
		c.set.Region = r.value
	}
	c.credentials(f)
	n := eventNames
	for _, l := range f.Let {
		c.lets, n = c.let(c.lets, l, n)
	}
	once := c.once("a second route named %q; the first is at line %d; give each a name of its own")
	for i := range f.Routes {
		once(f.Routes[i].Name)
		c.compileRoute(&f.Routes[i], n)
	}
}

// once returns a function that is given names, and notes one that came before.
func (c *compiler) once(format string) func(name text) {
	seen := map[string]*node{}
	return func(name text) {
		if first := seen[name.value]; first != nil {
			c.f.add(name.node, format, name.value, first.line)
		} else if name.node != nil {
			seen[name.value] = name.node
		}
	}
}

// eventNames are what every text may read.
var eventNames = known{"payload": {}, "event": {kind: object, keys: []string{"id", "type", "created_at"}}}

// let compiles one more named text and returns lets and n with it.
func (c *compiler) let(lets []let, l entry[text], n known) ([]let, known) {
	c.free(l.name, n, "let")
	t := c.template(l.value, "let "+l.name.value, n, false)
	return append(lets, let{l.name.value, t}), n.with(l.name.value, value{kind: word})
}

// compileRoute compiles r, which may read n.
func (c *compiler) compileRoute(r *route, n known) {
	out := &compiledRoute{name: r.Name.value, lets: slices.Clone(c.lets)}
	c.route = out
	c.r.list = append(c.r.list, out)
	for _, e := range r.Event {
		if e.node == nil {
			continue
		}
		if fault := eventFault(e.value); fault != "" {
			c.f.add(e.node, "the event %q %s", shortened(e.value), fault)
		}
		out.events = append(out.events, e.value)
	}
	for _, l := range r.Lookup {
		c.free(l.name, n, "lookup")
		if compiled := c.lookup(l, n); compiled != nil {
			out.lookups = append(out.lookups, compiled)
			k := row
			if compiled.kind == "many" {
				k = rows
			}
			n = n.with(l.name.value, value{kind: k, of: compiled})
		}
	}
	for _, l := range r.Let {
		out.lets, n = c.let(out.lets, l, n)
	}
	c.ordering(r, n)
	out.when = c.condition(r.When, n)
	for _, l := range out.lets {
		if out.when.reads(l.name) {
			c.f.add(r.When.node, "when reads %s, which let makes afterwards; use the values that it is made of", l.name)
		}
	}
	out.early = true
	for _, l := range out.lookups {
		if out.when.reads(l.Name) {
			out.early = false
		}
	}
	out.early = out.early && !out.when.reads("now")
	stepNames := n
	if r.Copy != nil {
		out.copy = c.copy(r.Copy, n)
		stepNames = n.with("copy", value{kind: object, keys: out.copy.names()})
	}
	c.steps(r, stepNames)
	for _, k := range r.Cancels {
		cc := compiledCancel{key: c.expression(k.Key, n)}
		for _, s := range k.Steps {
			cc.steps = append(cc.steps, s.value)
		}
		if cc.key.readsLet(out.lets) {
			c.f.add(k.Key.node, "a key cannot read what let makes; use the values that it is made of")
		}
		out.cancels = append(out.cancels, cc)
	}
	if len(r.Deliver) == 0 && len(r.Cancels) == 0 && r.Node != nil && len(c.f.list) == 0 { // else a misspelt key may be why
		c.f.add(r.Node, `the route %q does nothing; it needs "deliver" or "cancels"`, r.Name.value)
	}
}

func (x *expression) readsLet(lets []let) bool {
	return slices.ContainsFunc(lets, func(l let) bool { return x.reads(l.name) })
}

// free notes where a name is taken.
func (c *compiler) free(t text, n known, what string) {
	if t.node == nil {
		return
	}
	_, taken := n[t.value]
	switch {
	case slices.Contains(ownNames, t.value):
		c.f.add(t.node, "the %s cannot be called %q, which has a meaning of its own; choose another name", what, t.value)
	case taken:
		c.f.add(t.node, "the %s cannot be called %q, since there is something of that name already", what, t.value)
	}
}

// eventFault says what is wrong with the name of an event type.
func eventFault(e string) string {
	prefix, wild := strings.CutSuffix(e, "*")
	switch {
	case e == "*":
		return ""
	case wild && !strings.HasSuffix(prefix, "."):
		return `has a * that does not follow a dot; accepted are an exact type, a beginning such as quote.*, and *`
	case strings.Contains(prefix, "*"):
		return `has a * within it; accepted are an exact type, a beginning such as quote.*, and *`
	case e == "" || strings.TrimSpace(e) != e || utf8.RuneCountInString(e) > 200:
		return "has to be a text of up to 200 characters, without blanks around it"
	}
	return ""
}

// matches reports whether the route is for events of type typ.
func (r *compiledRoute) matches(typ string) bool {
	return slices.ContainsFunc(r.events, func(e string) bool {
		if prefix, wild := strings.CutSuffix(e, "*"); wild {
			return strings.HasPrefix(typ, prefix)
		}
		return e == typ
	})
}

// argument is a parameter of a statement with where its value is in the scope.
type argument struct {
	query.Param
	path    []string
	payload bool // it is a key of the payload
}

// arguments finds where the parameters of q come from.
func (c *compiler) arguments(t text, q *query.Query, n known) []argument {
	var out []argument
	for _, p := range q.Params() {
		a := argument{Param: p, path: p.Path}
		_, item := n["item"]
		switch {
		case p.Path[0] == "let" && len(p.Path) == 2:
			a.path = p.Path[1:]
			if n[a.path[0]].kind != word {
				c.f.addAt(t.node, p.Line, p.Column, "there is no let %q", a.path[0])
				continue
			}
		case len(p.Path) == 1 && !(item && p.Path[0] == "item"):
			a.path, a.payload = []string{"payload", p.Path[0]}, true
		case p.Path[0] == "payload":
			a.payload = true
		default:
			if fault := n.fault(p.Path); fault != "" {
				c.f.addAt(t.node, p.Line, p.Column, "%s; a key within the payload is :payload.%s", fault, p.Name())
				continue
			}
			if n[p.Path[0]].kind == rows {
				c.f.addAt(t.node, p.Line, p.Column, "%s is a list of rows; a parameter takes a column of one row", p.Path[0])
				continue
			}
			c.useAt(t, p.Line, p.Column, n, p.Path)
		}
		c.note(a.path[0])
		c.noteCopy(n, a.path)
		out = append(out, a)
	}
	return out
}

// parsed parses the statement in t; nil where it is wrong.
func (c *compiler) parsed(t text) *query.Query {
	if t.node == nil {
		return nil
	}
	q, err := query.Parse(t.value)
	if e, ok := errors.AsType[*query.Error](err); ok {
		c.f.addAt(t.node, e.Line, e.Column, "%s", e.Message)
		return nil
	}
	return q
}

func (c *compiler) lookup(l entry[lookup], n known) *compiledLookup {
	q := c.parsed(l.value.SQL)
	if q == nil {
		return nil
	}
	kind := l.value.Rows.value
	if kind == "" {
		kind = "one"
	}
	out := &compiledLookup{
		Lookup: Lookup{Route: c.route.name, Name: l.name.value, Query: q, node: l.value.SQL.node},
		args:   c.arguments(l.value.SQL, q, n),
		kind:   kind,
	}
	c.r.lookups = append(c.r.lookups, out.Lookup)
	return out
}

// use notes that a text reads a column, offset characters into t.
func (c *compiler) use(t text, offset int, n known, path []string) {
	line, column := 1, 1
	for i, r := range []rune(t.value) {
		if i >= offset {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	c.useAt(t, line, column, n, path)
}

func (c *compiler) useAt(t text, line, column int, n known, path []string) {
	what, ok := n[path[0]]
	if !ok || what.of == nil || len(path) < 2 || c.r == nil {
		return
	}
	key := path[1]
	if what.kind == rows {
		if len(path) < 3 {
			return
		}
		key = path[2]
	}
	if key == "[]" {
		return
	}
	u := Use{Route: what.of.Route, Lookup: what.of.Name, Column: key}
	u.Line, u.Place.Column = t.node.within(line, column)
	c.r.uses = append(c.r.uses, u)
}

func shortened(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
