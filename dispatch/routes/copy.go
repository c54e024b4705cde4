package routes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/openai"
)

// Writer writes the copy of routes: an *openai.Client, also a nil one.
type Writer interface {
	Write(ctx context.Context, a openai.Ask) map[string]openai.Words
}

// maxBudget is the longest that an event waits for words; its claim goes on
// meanwhile.
const maxBudget = time.Minute

type compiledCopy struct {
	model, instructions string
	budget              time.Duration
	facts               named
	fields              []copyField
}

type copyField struct {
	openai.Field
	must     []*template
	fallback *template
}

// names are those of the fields; none of a nil copy.
func (c *compiledCopy) names() []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, f := range c.fields {
		out = append(out, f.Name)
	}
	return out
}

// single says that fields are used where there is one line.
func (c *compiledCopy) single(fields []string) {
	for i := range c.fields {
		c.fields[i].SingleLine = c.fields[i].SingleLine || slices.Contains(fields, c.fields[i].Name)
	}
}

func (c *compiler) copy(w *words, n known) *compiledCopy {
	out := &compiledCopy{model: w.Model.value, instructions: w.Instructions.value, budget: w.Budget.of, facts: c.named(w.Facts, "facts", n)}
	if out.budget > maxBudget {
		c.f.add(w.Budget.node, "the budget is %v; at most %v is accepted, since the event waits for it", out.budget, maxBudget)
	}
	if w.Instructions.node != nil && strings.TrimSpace(out.instructions) == "" {
		c.f.add(w.Instructions.node, "the instructions are empty; they have to say how to write")
	}
	for _, f := range w.Fields {
		field := copyField{
			Field: openai.Field{
				Name: f.name.value, Describe: f.value.Describe.value, MaxChars: f.value.MaxChars, MaxSegments: f.value.MaxSegments,
				SingleLine: f.value.SingleLine,
			},
			must:     c.list(f.value.MustContain, "must_contain", n),
			fallback: c.template(f.value.Template, "template", n, false),
		}
		for _, word := range f.value.MustNot {
			field.MustNot = append(field.MustNot, word.value)
		}
		out.fields = append(out.fields, field)
	}
	if len(out.fields) == 0 && w.Node != nil {
		c.f.add(w.Node, "copy has no fields; it needs at least one text to write")
	}
	return out
}

// written is the copy of one event: asked for once, when the first step needs
// it.
type written struct {
	once  sync.Once
	words map[string]openai.Words
	texts map[string]copyText
}

type copyText struct {
	text string
	err  error
}

// ask has the words written, whatever comes of it.
func (rt *routeRun) ask() {
	rt.written.once.Do(func() {
		c := rt.route.copy
		rt.written.texts = map[string]copyText{}
		rt.written.words = rt.write(c)
	})
}

func (rt *routeRun) write(c *compiledCopy) map[string]openai.Words {
	a := openai.Ask{Model: c.model, Instructions: c.instructions, Budget: c.budget}
	r := &rendering{route: rt, scope: rt.scope}
	fail := func(what string, err error) map[string]openai.Words {
		out := map[string]openai.Words{}
		for _, f := range c.fields {
			out[f.Name] = openai.Words{Fallback: fmt.Sprintf("%s: %v", what, err)}
		}
		return out
	}
	for _, f := range c.facts {
		v, err := r.text(f.tmpl)
		if err != nil {
			return fail("fact "+f.name, err)
		}
		a.Facts = append(a.Facts, openai.Fact{Name: f.name, Value: v})
	}
	for _, f := range c.fields {
		field := f.Field
		for i, m := range f.must {
			v, err := r.text(m)
			if err != nil {
				return fail(fmt.Sprintf("must_contain %d of %s", i+1, f.Name), err)
			}
			if v != "" {
				field.MustContain = append(field.MustContain, v)
			}
		}
		a.Fields = append(a.Fields, field)
	}
	return rt.plan.writer.Write(rt.plan.ctx, a)
}

// copyText is the text of a field: the model's, or what its template makes.
func (rt *routeRun) copyText(field string) (string, error) {
	rt.ask()
	if w := rt.written.words[field]; w.Fallback == "" && w.Text != "" {
		return w.Text, nil
	}
	if t, ok := rt.written.texts[field]; ok {
		return t.text, t.err
	}
	var t copyText
	i := slices.IndexFunc(rt.route.copy.fields, func(f copyField) bool { return f.Name == field })
	t.text, t.err = (&rendering{route: rt, scope: rt.scope}).text(rt.route.copy.fields[i].fallback)
	rt.written.texts[field] = t
	return t.text, t.err
}

// source says where the words of fields came from.
func (rt *routeRun) source(fields []string) string {
	var notes []string
	for _, f := range rt.route.copy.names() { // in the file's order
		if !slices.Contains(fields, f) {
			continue
		}
		if w := rt.written.words[f]; w.Fallback == "" && w.Text != "" {
			notes = append(notes, f+": ai")
		} else {
			notes = append(notes, fmt.Sprintf("%s: fallback (%s)", f, w.Fallback))
		}
	}
	return strings.Join(notes, ", ")
}
