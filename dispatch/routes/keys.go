package routes

import "strings"

// SharedKey is a step that supersedes the deliveries of a step of the same name
// in another route, by a key that is written in another way. Where the two are
// about different things whose keys may be equal, they cancel each other's.
type SharedKey struct {
	Route, Step, Key string
	Other, OtherKey  string // the route that comes first, and the key there
	OtherLine        int
	Place            // of the key
}

// SharedKeys are the steps whose business keys might meet those of another route,
// in the order of the file.
func (r *Routes) SharedKeys() []SharedKey {
	type use struct {
		route string
		key   text
	}
	first := map[string]use{}
	var out []SharedKey
	for _, route := range r.file.Routes {
		for _, s := range route.Deliver {
			if s.Supersedes.node == nil {
				continue
			}
			u := use{route.Name.value, s.Supersedes}
			f, known := first[s.Name.value]
			if !known {
				first[s.Name.value] = u
				continue
			}
			if spaceless(f.key.value) == spaceless(u.key.value) {
				continue
			}
			out = append(out, SharedKey{
				Route: u.route, Step: s.Name.value, Key: u.key.value,
				Other: f.route, OtherKey: f.key.value, OtherLine: f.key.node.line,
				Place: Place{u.key.node.line, u.key.node.column},
			})
		}
	}
	return out
}

func spaceless(s string) string { return strings.Join(strings.Fields(s), "") }

// IdleCancel is a step that cancels names and that no route has with a business key.
type IdleCancel struct {
	Step string
	Place
}

// IdleCancels are the steps named under cancels of which this file schedules nothing
// that could be found by a key, in the order of the file. A file from before may have.
func (r *Routes) IdleCancels() []IdleCancel {
	keyed := map[string]bool{}
	for _, route := range r.file.Routes {
		for _, s := range route.Deliver {
			if s.Supersedes.node != nil {
				keyed[s.Name.value] = true
			}
		}
	}
	var out []IdleCancel
	for _, route := range r.file.Routes {
		for _, k := range route.Cancels {
			for _, s := range k.Steps {
				if !keyed[s.value] {
					out = append(out, IdleCancel{s.value, Place{s.node.line, s.node.column}})
				}
			}
		}
	}
	return out
}
