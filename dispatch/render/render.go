// Package render makes texts from the templates of routes.yaml: Go's
// text/template, and html/template for the HTML of e-mails, over decoded JSON.
//
// Neither a template nor the data that it meets can make it panic, run on, or
// fill the memory. A template is checked and rewritten when it is loaded: only
// the functions of Functions are accepted, no templates in templates, no method
// and no Go field is within reach, and every path, function and range goes
// through code of ours that knows the budget of the execution.
package render

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// What one execution may cost. A unit of work is about a byte that is looked at.
const (
	maxText       = 64 << 10  // bytes of a text, of its source, and of what any function makes
	maxHTML       = 256 << 10 // bytes of an HTML body, and of its source
	maxIterations = 10_000    // of all ranges together
	maxWork       = 16 << 20
	workPerNode   = 32 // evaluating a command
)

// Set is what the templates of one file have in common. It must not be changed
// once a template has been made.
type Set struct {
	Zone   *time.Location    // of datetime, date and time; nil means UTC
	Region string            // of phone numbers without a country code, such as US; "" means that there are none such
	Env    map[string]string // what env may read, with its values
}

// Template is a template that was found good. Many goroutines may execute it at
// once.
type Template struct {
	name   string
	source string
	set    *Set
	html   bool
	limit  int
	fixed  *string // the whole text, when nothing in it is computed

	sites []site
	paths [][]string

	execute func(io.Writer, any) error
}

// Text makes a template for plain text. Any error is an *Error.
func (s *Set) Text(name, source string) (*Template, error) {
	return s.load(&Template{name: name, source: source, set: s, limit: maxText})
}

// HTML makes a template for an HTML document or a part of one, in which values
// are escaped by the place where they stand. Any error is an *Error.
func (s *Set) HTML(name, source string) (*Template, error) {
	return s.load(&Template{name: name, source: source, set: s, limit: maxHTML, html: true})
}

// Execute returns the text that t makes of scope, which has to consist of the
// values that Decode makes. Any error is an *Error; the same scope always gives
// the same text or error.
func (t *Template) Execute(scope map[string]any) (text string, err error) {
	if t.fixed != nil {
		return *t.fixed, nil
	}
	defer func() {
		if r := recover(); r != nil {
			text, err = "", t.whole(unforeseen)
		}
	}()
	out := writer{limit: t.limit}
	if err := t.execute(&out, &run{t: t, scope: scope, work: maxWork, iterations: maxIterations}); err != nil {
		return "", t.explain(err)
	}
	return out.String(), nil
}

// Paths returns what t reads of the scope, as far as that can be seen without
// values: each path once, "[]" standing for the elements of a list or object. An
// empty path means the scope as a whole. What index reads by a name is not among
// them, since it need not be there.
func (t *Template) Paths() [][]string { return t.paths }

// whole returns an error about t without a place.
func (t *Template) whole(message string) *Error { return &Error{Name: t.name, Message: message} }

// at returns an error about what stands at a byte offset of the source.
func (t *Template) at(offset int, message string) *Error {
	line, column := place(t.source, offset)
	return &Error{Name: t.name, Line: line, Column: column, Message: clip(message)}
}

var errTooLong = errors.New("too long")

// unforeseen is said of what is none of our own errors.
const unforeseen = "it cannot be rendered with these values"

// explain returns what stopped an execution. The words of text/template are not
// used, since they may have values in them.
func (t *Template) explain(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, errTooLong) {
		return t.whole("the result is longer than " + strconv.Itoa(t.limit>>10) + " KiB; shorten it, with slice or truncate")
	}
	return t.whole(unforeseen)
}

// writer gathers the output up to a limit.
type writer struct {
	strings.Builder
	limit int
}

func (w *writer) Write(p []byte) (int, error) {
	if w.Len()+len(p) > w.limit {
		return 0, errTooLong
	}
	return w.Builder.Write(p)
}

func (w *writer) WriteString(s string) (int, error) {
	if w.Len()+len(s) > w.limit {
		return 0, errTooLong
	}
	return w.Builder.WriteString(s)
}
