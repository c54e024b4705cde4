package routes

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decode reads what parse made of a file into its types, by their tags. What is
// wrong with it it adds to f, all at once: the rest is read, and what is wrong
// stays as if it were not there. It returns nil where n is no mapping.
func decode(n *node, f *findings) *file {
	if n == nil {
		return nil
	}
	out := new(file)
	d := decoder{f: f}
	if !d.mapping(reflect.ValueOf(out).Elem(), n, "the file") {
		return nil
	}
	return out
}

type decoder struct {
	f *findings

	// The mappings that are being read, and by which keys.
	types []reflect.Type
	names []string
}

// fromMapping is what ordered[T] is to the decoder and the schema.
type fromMapping interface {
	add(name text, value reflect.Value)
	valueType() reflect.Type
}

func (o *ordered[T]) add(name text, value reflect.Value) {
	*o = append(*o, entry[T]{name: name, value: value.Interface().(T)})
}

func (*ordered[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// mapping reads n into the struct v. what names it in messages.
func (d *decoder) mapping(v reflect.Value, n *node, what string) bool {
	keys := keysOf(v.Type())
	if n.kind != mapping {
		d.f.add(n, "%s is %s; a mapping is accepted, with %s", what, n, names(keys, "and"))
		return false
	}
	d.types = append(d.types, v.Type())
	defer func() { d.types = d.types[:len(d.types)-1] }()
	if f := v.FieldByName("Node"); f.IsValid() {
		f.Set(reflect.ValueOf(n))
	}
	groups := map[string][]*node{}
	for i, k := range n.keys {
		at := slices.IndexFunc(keys, func(known key) bool { return known.name == k.value })
		if at < 0 {
			d.unknown(k, keys)
			continue
		}
		if g := keys[at].one; g != "" {
			groups[g] = append(groups[g], k)
		}
		d.names = append(d.names, k.value)
		d.value(v.Field(keys[at].field), n.items[i], keys[at], quote(k.value))
		d.names = d.names[:len(d.names)-1]
	}
	for _, k := range keys {
		if k.need && !slices.ContainsFunc(n.keys, func(have *node) bool { return have.value == k.name }) {
			d.f.add(n, "%s has no %s, which has to be there: %s", what, quote(k.name), sentence(k.doc))
		}
	}
	d.one(n, keys, groups, what)
	return true
}

// one notes where a mapping has not exactly one key of a group.
func (d *decoder) one(n *node, keys []key, have map[string][]*node, what string) {
	for i, k := range keys {
		if k.one == "" || slices.ContainsFunc(keys[:i], func(earlier key) bool { return earlier.one == k.one }) {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(keys), func(other key) bool { return other.one != k.one })
		switch there := have[k.one]; {
		case len(there) == 0:
			d.f.add(n, "%s has no %s; it has exactly one of %s", what, k.one, names(of, "and"))
		case len(there) > 1:
			d.f.add(there[1], "%s has %s already; it has exactly one of %s", what, quote(there[0].value), names(of, "and"))
		}
	}
}

// value reads n, the value of k, into v, and says whether it could: v is as it
// was where it could not.
func (d *decoder) value(v reflect.Value, n *node, k key, what string) bool {
	if n.kind == null {
		d.empty(n, k, what)
		return false
	}
	switch to := v.Addr().Interface().(type) {
	case *text:
		return d.text(to, n, k, what)
	case *span:
		return d.span(to, n, what)
	case **tree:
		*to = &tree{node: n}
		return true
	case *bool:
		return d.bool(to, n, what)
	case *int:
		return d.int(to, n, k, what)
	case fromMapping:
		return d.ordered(to, n, k, what)
	}
	switch v.Kind() {
	case reflect.Pointer:
		in := reflect.New(v.Type().Elem())
		ok := d.value(in.Elem(), n, k, what)
		if ok {
			v.Set(in)
		}
		return ok
	case reflect.Struct:
		return d.mapping(v, n, what)
	case reflect.Slice:
		return d.list(v, n, k, what)
	}
	panic("routes: no way to read a " + v.Type().String())
}

// empty notes a key without a value.
func (d *decoder) empty(n *node, k key, what string) {
	t := k.goType
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	keys := []key(nil)
	if t.Kind() == reflect.Struct {
		keys = keysOf(t)
	}
	needed := slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return !k.need })
	switch {
	case len(needed) > 0:
		d.f.add(n, "%s has no settings; it needs %s", what, names(needed, "and"))
	case len(keys) > 0:
		d.f.add(n, "%s has no settings; leave it out, or give it %s", what, names(keys, "or"))
	case k.need:
		d.f.add(n, "%s is empty, and has to be there: %s", what, sentence(k.doc))
	default:
		d.f.add(n, "%s is empty; leave it out, or give it a value", what)
	}
}

// list reads n into the slice v, without the items that cannot be read. One
// scalar is a list of it.
func (d *decoder) list(v reflect.Value, n *node, k key, what string) bool {
	element := v.Type().Elem()
	items := n.items
	switch scalars := takesOne(element); {
	case n.kind == list:
		if len(items) == 0 && k.need {
			d.f.add(n, "%s is an empty list, and has to have an item: %s", what, sentence(k.doc))
		}
		what = "an item of " + what
	case scalars && n.kind != mapping:
		items = []*node{n}
	case scalars:
		d.f.add(n, "%s is %s; %s or a list of such is accepted", what, n, accepts(element, k))
		return false
	default:
		d.f.add(n, "%s is %s; a list of mappings is accepted, each of which begins with -", what, n)
		return false
	}
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	k.goType = element
	for _, item := range items {
		if item.kind == null {
			d.f.add(item, "%s is empty; leave it out", what)
			continue
		}
		if one := reflect.New(element).Elem(); d.value(one, item, k, d.title(item, what)) {
			out = reflect.Append(out, one)
		}
	}
	v.Set(out)
	return true
}

// takesOne says whether a list of that type may be written as its only item.
func takesOne(element reflect.Type) bool {
	return element == reflect.TypeFor[text]() || element.Kind() == reflect.Int
}

// title names an item of a list, by its name where it has one.
func (d *decoder) title(n *node, what string) string {
	for i, k := range n.keys {
		if k.value == "name" && n.items[i].kind == str {
			of := d.names[len(d.names)-1]
			if one, ok := singular[of]; ok {
				return "the " + one + " " + short(n.items[i].value)
			}
		}
	}
	if len(d.names) > 0 && n.kind == mapping {
		if one, ok := singular[d.names[len(d.names)-1]]; ok {
			return "this " + one
		}
	}
	return what
}

// singular is what an item of the list of a key is called.
var singular = map[string]string{
	"routes":      "route",
	"deliver":     "step",
	"attachments": "attachment",
	"attendees":   "attendee",
	"cancels":     "item of \"cancels\"",
}

// ordered reads n into an ordered mapping, without the values that cannot be
// read.
func (d *decoder) ordered(to fromMapping, n *node, k key, what string) bool {
	if n.kind != mapping {
		d.f.add(n, "%s is %s; a mapping of names and values is accepted", what, n)
		return false
	}
	if len(n.keys) == 0 && k.need {
		d.f.add(n, "%s is an empty mapping, and has to have a key: %s", what, sentence(k.doc))
	}
	k.goType, k.need = to.valueType(), false
	for i, name := range n.keys {
		if p, ok := hasPattern(k.names); ok && name.kind == str && !p.matches.MatchString(name.value) {
			d.f.add(name, "the key %s of %s is not %s", short(name.value), what, p.is)
		} else if name.value == "" {
			d.f.add(name, "a key of %s is an empty text; give it a name", what)
		}
		if one := reflect.New(k.goType).Elem(); d.value(one, n.items[i], k, short(name.value)+" of "+what) {
			to.add(text{value: name.value, node: name}, one)
		}
	}
	return true
}

func (d *decoder) text(to *text, n *node, k key, what string) bool {
	p, has := hasPattern(k.kind)
	strict := has || len(k.enum) > 0
	switch {
	case n.kind == mapping || n.kind == list:
		mend := ""
		if n.style == flow {
			mend = "; put a text that begins with { or [ in quotes"
		}
		d.f.add(n, "%s is %s; %s is accepted%s", what, n, accepts(reflect.TypeFor[text](), k), mend)
		return false
	case k.kind == "variable" && (n.kind != str || !p.matches.MatchString(n.value)):
		// It may be the secret itself.
		d.f.add(n, "%s is not %s", what, p.is)
		return false
	case has && n.kind != str:
		d.f.add(n, "%s is %s, which is not %s", what, n, p.is)
		return false
	case strict && n.kind != str:
		d.f.add(n, "%s is %s; %s is accepted", what, n, accepts(reflect.TypeFor[text](), k))
		return false
	case len(k.enum) > 0 && !slices.Contains(k.enum, n.value):
		d.f.add(n, "%s is %s; %s%s", what, short(n.value), values(k.enum), meant(n.value, k.enum))
		return false
	case has && !p.matches.MatchString(n.value):
		d.f.add(n, "%s is %s, which is not %s", what, short(n.value), p.is)
		return false
	case k.need && n.value == "":
		d.f.add(n, "%s is an empty text, and has to be there: %s", what, sentence(k.doc))
		return false
	}
	*to = text{value: n.value, node: n}
	return true
}

func (d *decoder) bool(to *bool, n *node, what string) bool {
	if n.kind != boolean {
		d.f.add(n, "%s is %s; true or false is accepted", what, n)
		return false
	}
	*to = n.value == "true"
	return true
}

func (d *decoder) int(to *int, n *node, k key, what string) bool {
	if n.kind != integer {
		d.f.add(n, "%s is %s; %s is accepted", what, n, accepts(reflect.TypeFor[int](), k))
		return false
	}
	if len(k.enum) > 0 && !slices.Contains(k.enum, n.value) {
		d.f.add(n, "%s is %s; %s", what, n.value, values(k.enum))
		return false
	}
	i, err := strconv.Atoi(n.value)
	if err != nil || i < k.min || i > most(k) {
		d.f.add(n, "%s is %s; %s is accepted", what, n.value, accepts(reflect.TypeFor[int](), k))
		return false
	}
	*to = i
	return true
}

// most is the largest number of a key.
func most(k key) int {
	if k.max > 0 {
		return k.max
	}
	return 1_000_000_000
}

const longestSpan = 366 * 24 * time.Hour

func (d *decoder) span(to *span, n *node, what string) bool {
	p := patterns["span"]
	if n.kind == integer {
		d.f.add(n, "%s is %s without a unit; %s is accepted, here perhaps %ss", what, n, p.is, strings.TrimPrefix(n.value, "-"))
		return false
	}
	if n.kind != str || !p.matches.MatchString(n.value) {
		d.f.add(n, "%s is %s; %s is accepted", what, n, p.is)
		return false
	}
	of, ok := duration(n.value)
	switch {
	case !ok || of > longestSpan:
		d.f.add(n, "%s is %s; at most 366d is accepted", what, n.value)
	case of <= 0:
		d.f.add(n, "%s is %s; more than 0 is accepted", what, n.value)
	default:
		*to = span{of: of, node: n}
		return true
	}
	return false
}

// duration reads a duration of Go's format, which may have days and weeks. It
// returns false for what no time.Duration holds, and for other texts.
func duration(s string) (time.Duration, bool) {
	var sum time.Duration
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if end <= 0 {
			return 0, false
		}
		digits, rest := s[:end], s[end:]
		unit := rest
		if i := strings.IndexAny(rest, "0123456789."); i >= 0 {
			unit = rest[:i]
		}
		s = rest[len(unit):]
		times := time.Duration(1)
		switch unit {
		case "d":
			unit, times = "h", 24
		case "w":
			unit, times = "h", 7*24
		}
		one, err := time.ParseDuration(digits + unit)
		if err != nil || one > (1<<63-1-sum)/times {
			return 0, false
		}
		sum += one * times
	}
	return sum, true
}

// unknown notes a key that is not known, and what may have been meant.
func (d *decoder) unknown(k *node, keys []key) {
	accepted := names(keys, "and")
	known := make([]string, len(keys))
	for i, one := range keys {
		known[i] = one.name
	}
	if near := nearest(k.value, known); near != "" {
		d.f.add(k, "the key %s is not known here; did you mean %s? accepted are %s", short(k.value), quote(near), accepted)
		return
	}
	// What is indented too little or too much is known elsewhere.
	for i := len(d.types) - 2; i >= 0; i-- {
		if slices.ContainsFunc(keysOf(d.types[i]), func(up key) bool { return up.name == k.value }) {
			d.f.add(k, "the key %s is not known here; it belongs beside %s, indented less; accepted here are %s", short(k.value), quote(d.under(i)), accepted)
			return
		}
	}
	var in []key
	for _, one := range keys {
		t := one.goType
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct && slices.ContainsFunc(keysOf(t), func(down key) bool { return down.name == k.value }) {
			in = append(in, one)
		}
	}
	if len(in) > 0 {
		d.f.add(k, "the key %s is not known here; it belongs in %s, indented more; accepted here are %s", short(k.value), names(in, "or"), accepted)
		return
	}
	d.f.add(k, "the key %s is not known here; accepted are %s", short(k.value), accepted)
}

// under returns the key of mapping i under which what is read now stands.
func (d *decoder) under(i int) string {
	if i < len(d.names) {
		return d.names[i]
	}
	return d.names[len(d.names)-1]
}

// accepts says what a key takes, as the beginning of a part of a sentence.
func accepts(t reflect.Type, k key) string {
	if t.Kind() == reflect.Int {
		if k.max > 0 {
			return fmt.Sprintf("a whole number from %d to %d", k.min, k.max)
		}
		if k.min > 0 {
			return fmt.Sprintf("a whole number from %d", k.min)
		}
		return "a whole number"
	}
	if len(k.enum) > 0 {
		return "one of " + strings.Join(quoteAll(k.enum), ", ")
	}
	if p, ok := hasPattern(k.kind); ok {
		return p.is
	}
	return "a text"
}

// values says which values are accepted.
func values(enum []string) string {
	if len(enum) == 1 {
		return "only " + enum[0] + " is accepted"
	}
	return "accepted are " + join(quoteAll(enum), "and")
}

func meant(s string, of []string) string {
	if near := nearest(s, of); near != "" {
		return "; did you mean " + quote(near) + "?"
	}
	return ""
}

// sentence is a doc as the end of a message, which has no full stop.
func sentence(doc string) string {
	doc = strings.TrimSuffix(doc, ".")
	if len(doc) > 1 && doc[1] >= 'a' && doc[1] <= 'z' || strings.HasPrefix(doc, "A ") {
		doc = strings.ToLower(doc[:1]) + doc[1:]
	}
	return doc
}

func quote(s string) string { return `"` + s + `"` }

func quoteAll(s []string) []string {
	out := make([]string, len(s))
	for i, one := range s {
		out[i] = quote(one)
	}
	return out
}

// names lists keys: "a", "b" and "c".
func names(keys []key, last string) string {
	var out []string
	for _, k := range keys {
		out = append(out, quote(k.name))
	}
	return join(out, last)
}

func join(s []string, last string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " " + last + " " + s[len(s)-1]
}
