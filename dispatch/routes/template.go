package routes

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// template is a template of the file.
type template struct {
	*render.Template
	label  string
	roots  []string // the names that it reads
	fields []string // what it reads of copy; nil: nothing
}

// template compiles t; nil where t is not there or something is wrong with it.
// label is what errors call it.
func (c *compiler) template(t text, label string, n known, html bool) *template {
	if t.node == nil {
		return nil
	}
	make := c.set.Text
	if html {
		make = c.set.HTML
	}
	compiled, err := make(label, t.value)
	if err != nil {
		e, ok := errors.AsType[*render.Error](err)
		if !ok {
			e = &render.Error{Message: err.Error()}
		}
		c.f.addAt(t.node, e.Line, e.Column, "%s", e.Message)
		return nil
	}
	out := &template{Template: compiled, label: label}
	good := true
	for _, path := range compiled.Paths() {
		line, column := readAt(t.value, path)
		switch {
		case len(path) == 0:
			for _, name := range slices.Sorted(maps.Keys(n)) {
				c.read(out, name)
			}
			out.fields = n["copy"].keys
			continue
		case n.fault(path) != "":
			c.f.addAt(t.node, line, column, "%s", n.fault(path))
			good = false
			continue
		}
		c.read(out, path[0])
		if path[0] == "copy" {
			if len(path) == 1 {
				out.fields = n["copy"].keys
			} else if !slices.Contains(out.fields, path[1]) {
				out.fields = append(out.fields, path[1])
			}
		}
		c.useAt(t, line, column, n, path)
	}
	for _, f := range out.fields {
		c.noteField(f)
	}
	if !good {
		return nil
	}
	return out
}

// read notes that t reads a name.
func (c *compiler) read(t *template, root string) {
	c.note(root)
	if !slices.Contains(t.roots, root) {
		t.roots = append(t.roots, root)
	}
}

// readAt finds about where a template reads path, from 1; 0 where it does not
// show.
func readAt(source string, path []string) (line, column int) {
	if len(path) == 0 {
		return 0, 0
	}
	named := slices.DeleteFunc(slices.Clone(path), func(s string) bool { return s == "[]" })
	for n := len(named); n > 0; n-- {
		if i := strings.Index(source, "."+strings.Join(named[:n], ".")); i >= 0 {
			start := strings.LastIndexByte(source[:i], '\n') + 1
			return strings.Count(source[:i], "\n") + 1, utf8.RuneCountInString(source[start:i]) + 1
		}
	}
	return 0, 0
}
