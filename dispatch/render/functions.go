package render

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"slices"
)

// Function is a function that templates may call. The value that a function is
// about comes first, or through a pipe: money .total "EUR" is the same as
// .total | money "EUR".
type Function struct {
	Name      string
	Signature string // how it is called; what stands in brackets may be left out
	Meaning   string
	Example   string // a template
	Data      string // the JSON object that the example is executed with
	Result    string // what it makes of it

	min, max int  // arguments; max -1 means any number
	inOrder  bool // what comes through a pipe is the last argument
	unpiped  bool // nothing may come through a pipe
	passes   bool // its result may be a list or an object
	text     bool // its result is always text
	url      bool // its result is text that is escaped for URLs

	// run is nil for what text/template does itself. The values are normal.
	run func(c call, args []any) (any, error)

	cost int  // how much more work it is than most; 0 means 1
	cuts bool // it does not look at more than maxText of a text

	// check looks at the arguments at load. Its number says which one is wrong.
	check func(s *Set, args []literal) (int, error)

	// of says where the result comes from, given where the value does.
	of func(value origin, args []literal) origin
}

// call is the place and execution that a function is called at.
type call struct {
	run  *run
	site *site
}

// Functions returns all functions in the order of the documentation.
func Functions() []Function { return slices.Clone(functions) }

// functions is filled by init, since some of them look things up in it.
var functions []Function

var byName = map[string]*Function{}

// bound are the functions under the names by which rewritten templates call
// them.
var bound = map[string]any{fnPath: at, fnPrint: show, fnPrintPath: showPath, fnRange: limit, fnNumber: constant}

func lookup(name string) *Function { return byName[name] }

func names() []string {
	var all []string
	for _, f := range functions {
		all = append(all, f.Name)
	}
	slices.Sort(all)
	return all
}

// bind returns f as text/template calls it.
func (f *Function) bind() func(r *run, i any, args ...any) (any, error) {
	return func(r *run, i any, args ...any) (any, error) {
		s := r.site(i)
		work := workPerNode * (1 + len(args))
		for n := range args {
			v, err := normal(args[n])
			if err != nil {
				return nil, r.fail(s, f.Name+": "+err.Error())
			}
			switch v := v.(type) {
			case string:
				if f.cuts {
					work += min(len(v), maxText)
				} else {
					work += len(v)
				}
			case Number:
				work += 8 * workPerNode
			}
			args[n] = v
		}
		if err := r.spendAt(s, work*max(1, f.cost)); err != nil {
			return nil, err
		}
		if s.piped && !f.inOrder {
			last := len(args) - 1
			value := args[last]
			copy(args[1:], args[:last])
			args[0] = value
		}
		result, err := f.run(call{r, s}, args)
		if err != nil {
			return nil, r.fail(s, f.Name+": "+err.Error())
		}
		text, ok := result.(string)
		if !ok {
			return result, nil
		}
		if len(text) > maxText {
			return nil, r.fail(s, f.Name+": "+errLong.Error())
		}
		if err := r.spendAt(s, len(text)); err != nil {
			return nil, err
		}
		if f.url && r.t.html {
			return htmltemplate.URL(text), nil //nolint:gosec // see escape: nothing is left in it that has a meaning in a URL
		}
		return text, nil
	}
}

// ofText makes a function of one that turns text into text. Null is no text.
func ofText(f func(string) string) func(call, []any) (any, error) {
	return func(_ call, args []any) (any, error) {
		s, err := plain(args[0])
		if err != nil {
			return nil, err
		}
		return f(s), nil
	}
}

// plain returns the text of a value that is not a list or an object.
func plain(v any) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", errors.New("it is given " + kind(v) + ", and takes text")
	}
	if len(s) > maxText {
		return "", errLong
	}
	return s, nil
}

// option returns the text of argument i, or what it is when it is left out.
func option(args []any, i int, otherwise string) (string, error) {
	if i >= len(args) || isNull(args[i]) {
		return otherwise, nil
	}
	s, ok := args[i].(string)
	if !ok {
		return "", fmt.Errorf("its value %d is %s; it has to be text", i+1, kind(args[i]))
	}
	if s == "" {
		return otherwise, nil
	}
	return s, nil
}

func isNull(v any) bool {
	_, ok := v.(Null)
	return ok
}

// whole returns the integer that v is.
func whole(v any) (int64, error) {
	n, ok := v.(int64)
	if !ok {
		return 0, errors.New("it is given " + kind(v) + ", and takes a whole number")
	}
	return n, nil
}
