package render

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the functions that rewritten templates call. No template can
// name them itself.
const (
	fnPath      = "_path"
	fnPrint     = "_print"
	fnPrintPath = "_printpath"
	fnRange     = "_range"
	fnNumber    = "_number"
)

// run is one execution. It is the data of the template ($, and the dot outside
// of with and range), and stands for the scope wherever a value is expected.
type run struct {
	t          *Template
	scope      map[string]any
	work       int
	iterations int
	probe      bool // stop at the first value
}

// site is a place in the template that something is computed at.
type site struct {
	offset int      // in the template's source
	source string   // as it was written, or the function's name
	path   []string // of fnPath: the keys to follow
	piped  bool     // of a function: its value comes through a pipe
	weight int      // of fnRange: the work of one iteration
}

func (r *run) site(i any) *site { return &r.t.sites[i.(int)] }

func (r *run) fail(s *site, message string) *Error {
	return r.t.at(s.offset, message)
}

var (
	errWork  = errors.New("it works on too much text; use less of it, with slice or truncate")
	errLong  = fmt.Errorf("the text is longer than %d KiB; shorten it, with slice or truncate", maxText>>10)
	errProbe = errors.New("probe")
)

// spend takes n units off the budget.
func (r *run) spend(n int) error {
	if r.probe {
		return errProbe
	}
	if r.work -= n; r.work < 0 {
		return errWork
	}
	return nil
}

// at follows a path from a value: .a.b, $x.a, (pipe).a.
func at(r *run, i, from any) (any, error) {
	s := r.site(i)
	v, err := normal(from)
	for n := 0; err == nil && n < len(s.path); n++ {
		if _, null := v.(Null); null {
			return v, nil
		}
		object, ok := v.(map[string]any)
		if !ok {
			return nil, r.fail(s, fmt.Sprintf("%s: %s is %s, which has no key %q%s",
				s.source, s.before(n), kind(v), s.path[n], elements(v)))
		}
		next, ok := object[s.path[n]]
		if !ok {
			return nil, r.fail(s, missing(s, n, object))
		}
		v, err = normal(next)
	}
	if err == nil {
		err = r.spend(0)
	}
	if err != nil {
		return nil, r.fail(s, s.source+": "+err.Error())
	}
	return v, nil
}

func elements(v any) string {
	if _, ok := v.([]any); ok {
		return "; use range for its elements, or index for one"
	}
	return ""
}

// before is what was written of a path up to its key n.
func (s *site) before(n int) string {
	rest := 0
	for _, key := range s.path[n:] {
		rest += len(key) + 1
	}
	switch base := s.source[:max(0, len(s.source)-rest)]; base {
	case "", "$":
		return "the value"
	default:
		return base
	}
}

func missing(s *site, n int, object map[string]any) string {
	has := "it has no keys"
	if len(object) > 0 {
		has = "there are " + strings.Join(nearest(s.path[n], slices.Collect(maps.Keys(object))), ", ")
		if len(object) > most {
			has += ", …"
		}
	}
	in := ""
	if base := s.before(n); base != "the value" {
		in = " in " + base
	}
	return fmt.Sprintf("%s: there is no key %q%s; %s; for a key that may be missing use index", s.source, short(s.path[n]), in, has)
}

// show is called for every value that is written, unless it is known to be text.
func show(r *run, i, value any) (any, error) {
	s := r.site(i)
	v, err := normal(value)
	if err != nil {
		return nil, r.fail(s, err.Error())
	}
	switch v := v.(type) {
	case []any:
		return nil, r.fail(s, "this is a list; use join, range or json to write it")
	case map[string]any:
		return nil, r.fail(s, "this is an object; use one of its keys, or json to write it")
	case string:
		// A URL that is known to be escaped stays one.
		return value, r.spendAt(s, len(v))
	}
	return v, r.spendAt(s, 0)
}

func (r *run) spendAt(s *site, n int) error {
	if err := r.spend(n); err != nil {
		return r.fail(s, err.Error())
	}
	return nil
}

// showPath is at and show in one, for the most frequent action.
func showPath(r *run, i, from any) (any, error) {
	v, err := at(r, i, from)
	if err != nil {
		return nil, err
	}
	return show(r, i, v)
}

// limit is called for what every range goes over.
func limit(r *run, i, value any) (any, error) {
	s := r.site(i)
	v, err := normal(value)
	if err != nil {
		return nil, r.fail(s, err.Error())
	}
	n := 0
	switch v := v.(type) {
	case Null:
		return []any(nil), r.spendAt(s, 0)
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil, r.fail(s, "range takes a list or an object, and this is "+kind(v))
	}
	if r.iterations -= n; r.iterations < 0 {
		return nil, r.fail(s, fmt.Sprintf("the ranges of a template go over at most %d elements together; use fewer, with slice", maxIterations))
	}
	return v, r.spendAt(s, n*s.weight)
}

// constant is a decimal number in a template, kept exact.
func constant(text string) Number { return newNumber(text) }
