package routes

import (
	"reflect"
	"regexp"
	"strings"
)

// key is a key of a mapping, as the tags of file.go have it.
type key struct {
	name   string
	need   bool
	enum   []string
	kind   string // of a text
	names  string // of the keys of an ordered mapping
	one    string // the group of keys of which a mapping has exactly one
	min    int    // of a number
	max    int    // 0: as many as there are
	doc    string
	field  int
	goType reflect.Type
}

// keysOf returns the keys of the mapping that t is read from, in its order.
func keysOf(t reflect.Type) []key {
	var keys []key
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		k := key{
			name:  name,
			need:  f.Tag.Get("need") == "yes",
			kind:  f.Tag.Get("kind"),
			names: f.Tag.Get("names"),
			one:   f.Tag.Get("one"),
			min:   whole(f.Tag.Get("min")),
			max:   whole(f.Tag.Get("max")),
			doc:   f.Tag.Get("doc"),
			field: i, goType: f.Type,
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			k.enum = strings.Split(enum, "|")
		}
		keys = append(keys, k)
	}
	return keys
}

// whole reads a number of a tag.
func whole(s string) (n int) {
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}

// pattern is what a text of some kind looks like.
type pattern struct {
	expression string
	is         string // what it is, in words
	matches    *regexp.Regexp
}

func patterned(expression, is string) pattern {
	return pattern{expression, is, regexp.MustCompile(expression)}
}

// patterns are those of the kinds that have one.
var patterns = map[string]pattern{
	"name":       patterned(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`, "a name: a letter, then at most 63 letters, digits, - and _"),
	"identifier": patterned(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`, "a name that templates can use: a letter or _, then at most 63 letters, digits and _"),
	"variable":   patterned(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`, "the name of an environment variable: letters, digits and _; it is never the value itself"),
	"span":       patterned(`^(?:[0-9]+(?:\.[0-9]+)?(?:w|d|h|m|s|ms|us|µs|ns))+$`, "a duration such as 90s, 2h30m, 1d or 1w"),
}

// hasPattern returns the pattern of a kind, false where it has none.
func hasPattern(kind string) (pattern, bool) {
	p, ok := patterns[kind]
	return p, ok
}
