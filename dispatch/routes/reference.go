package routes

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// Reference is the part of docs/routes.md that is made from the code: all keys,
// functions, layouts and the functions of conditions, as Markdown.
func Reference() []byte {
	var b bytes.Buffer
	keysReference(&b)
	b.WriteString("### Functions of templates\n\n| function | what it makes | example | gives |\n|---|---|---|---|\n")
	for _, f := range render.Functions() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` of `%s` | `%s` |\n", cell(f.Signature), cell(f.Meaning), cell(f.Example), cell(f.Data), cell(f.Result))
	}
	b.WriteString("\n### Words of layouts\n\n| word | of 2026-01-05T15:04:09-05:00 |\n|---|---|\n")
	for _, w := range render.LayoutWords() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", w.Word, w.Example)
	}
	fmt.Fprintf(&b, "\n### Functions of conditions\n\n`env`, `%s`.\n", strings.Join(functions, "`, `"))
	return b.Bytes()
}

// cell is text within a cell of a table.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// keysReference writes a table for each type of the file, those first that are
// met first.
func keysReference(b *bytes.Buffer) {
	type mapping struct {
		path string // "" for the file
		t    reflect.Type
	}
	queue := []mapping{{"", reflect.TypeFor[file]()}}
	seen := []reflect.Type{queue[0].t}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		title := "`" + m.path + "`"
		if m.path == "" {
			title = "The file"
		}
		fmt.Fprintf(b, "### %s\n\n| key | value | meaning |\n|---|---|---|\n", title)
		for _, k := range keysOf(m.t) {
			name := "`" + k.name + "`"
			if k.need {
				name += " *"
			}
			value, t := describe(k)
			fmt.Fprintf(b, "| %s | %s | %s |\n", name, cell(value), cell(k.doc))
			if t != nil && !slices.Contains(seen, t) {
				seen = append(seen, t)
				queue = append(queue, mapping{strings.TrimPrefix(m.path+"."+k.name, "."), t})
			}
		}
		b.WriteString("\n")
	}
}

// describe says what the value of k is, and which type has its keys, nil where it
// has none.
func describe(k key) (string, reflect.Type) {
	t := k.goType
	many, byName := false, false
	for {
		switch {
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
			continue
		case t.Kind() == reflect.Slice:
			if e := t.Elem(); e.Kind() == reflect.Struct && e.NumField() == 2 && e.Field(0).Name == "name" && e.Field(1).Name == "value" {
				byName, t = true, e.Field(1).Type
			} else {
				many, t = true, e
			}
			continue
		}
		break
	}
	var is string
	var keys reflect.Type
	switch {
	case len(k.enum) > 0:
		is = "`" + strings.Join(k.enum, "`, `") + "`"
	case t == reflect.TypeFor[text]():
		is = map[string]string{
			"template": "template", "html": "template of HTML", "expression": "expression", "time": "time", "sql": "SQL",
			"variable": "variable", "path": "path", "name": "name",
		}[k.kind]
		if is == "" {
			is = "text"
		}
	case t == reflect.TypeFor[span]():
		is = "duration"
	case t == reflect.TypeFor[tree]():
		is = "any"
	case t.Kind() == reflect.Int:
		is = "number"
	case t.Kind() == reflect.Bool:
		is = "true, false"
	default:
		is, keys = "keys", t
	}
	switch {
	case byName:
		is = "name: " + is
	case many && keys == nil:
		is += " or list"
	case many:
		is = "list of " + is
	}
	return is, keys
}
