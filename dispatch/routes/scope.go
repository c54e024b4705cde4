package routes

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// scope is what templates, expressions and parameters read: values of
// render.Decode's, by name.
type scope struct {
	values map[string]any
	isRow  map[string]bool // which of them are rows of lookups
	now    time.Time

	plain map[string]any // what expressions see, made when the first one asks

	// shared is what of it all routes of the event have: it may be large. nil
	// where there is nothing.
	shared func() map[string]any
}

// with returns a scope that has one more value.
func (s *scope) with(name string, value any) *scope {
	values := maps.Clone(s.values)
	values[name] = value
	out := &scope{values: values, isRow: s.isRow, now: s.now, shared: s.shared}
	if s.plain != nil { // all else is the same, and may be large
		out.plain = maps.Clone(s.plain)
		out.plain[name] = plainValue(value)
	}
	return out
}

// at returns the value at path; false where it is missing. Within null
// everything is missing.
func (s *scope) at(path []string) (any, bool) {
	var v any = s.values
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

// forExpressions returns the values as expressions take them, whose numbers are
// ints and floats.
func (s *scope) forExpressions() map[string]any {
	if s.plain == nil {
		s.plain = make(map[string]any, len(s.values)+1)
		if s.shared != nil {
			maps.Copy(s.plain, s.shared())
		}
		for name, v := range s.values {
			if _, there := s.plain[name]; !there {
				s.plain[name] = plainValue(v)
			}
		}
	}
	s.plain["now"] = s.now
	return s.plain
}

func plainValue(v any) any {
	switch v := v.(type) {
	case render.Null:
		return nil
	case int64:
		return int(v)
	case render.Number:
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return math.Inf(1) // larger than anything it is compared with
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plainValue(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = plainValue(v[k])
		}
		return out
	}
	return v
}

// decoded is a value of an expression as templates see it.
func decoded(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		return render.Null{}
	}
	out, err := render.Decode(raw)
	if err != nil {
		return render.Null{}
	}
	return out
}

// known is what a text of the file may read, by what stands there.
type known map[string]value

// value says what is known of a value before there are any.
type value struct {
	kind nameKind
	keys []string // all that it has; nil where that is not known
	of   *compiledLookup

	answers map[string][]string // of steps: the keys of its keys, where they are known
}

type nameKind int

const (
	anything nameKind = iota // whatever the event has
	object                   // has keys
	row                      // of a lookup: an object, or null where it is optional
	rows                     // of a lookup: a list of objects
	word                     // a text
)

// with returns known that has one more.
func (n known) with(key string, v value) known {
	out := maps.Clone(n)
	out[key] = v
	return out
}

func (n known) list() string { return listed(slices.Sorted(maps.Keys(n))) }

// listed writes words as a sentence has them.
func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// fault says what keeps a text that reads path from ever being right; "" where
// nothing does.
func (n known) fault(path []string) string {
	what, ok := n[path[0]]
	switch {
	case !ok && path[0] == "steps":
		return "steps has the answers of the steps that after names; this step has no after"
	case !ok && path[0] == "item":
		return "item is what for_each goes through; this step has no for_each"
	case !ok && path[0] == "copy":
		return "there is no copy here; it is there for steps, where the route has one"
	case !ok:
		return "there is no " + strconv.Quote(path[0]) + " here; there are " + n.list()
	case len(path) < 2:
		return ""
	}
	key := path[1]
	switch {
	case what.kind == word:
		return path[0] + " is a text and has no " + strconv.Quote(key)
	case what.kind == rows && key != "[]":
		return path[0] + " is a list of rows, since its lookup says rows: many; go through it with range"
	case what.kind == object && !slices.Contains(what.keys, key):
		return path[0] + " has no " + strconv.Quote(key) + "; it has " + listed(what.keys)
	}
	if keys, ok := what.answers[key]; ok && len(path) > 2 && !slices.Contains(keys, path[2]) {
		if len(keys) == 0 {
			return "the step " + key + " keeps nothing of its answer; its save says what it keeps"
		}
		return path[0] + "." + key + " has no " + strconv.Quote(path[2]) + "; it has " + listed(keys)
	}
	return ""
}

// Use is a column of a lookup's row that a text of the file reads.
type Use struct {
	Route, Lookup, Column string
	Place
}

// Place is where something stands in the file, from 1; columns count characters.
type Place struct{ Line, Column int }
