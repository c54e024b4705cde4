package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// headerRules say what may be among the headers that a content names.
type headerRules struct {
	own, prefixes []string // names, and beginnings of names, that cannot be set there
	safe          func(value string) bool
	unsafe        string // what a value has in it that is not safe, for use in a sentence
	longest       int    // of a value, in bytes
}

// validate reports what is wrong with headers, in a sentence that names the key.
func (r headerRules) validate(headers map[string]string) error {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		switch {
		case !token(name) || len(name) > 76:
			return errors.New(`the key "headers" has a name in it that is not a header name; letters, digits and hyphens are accepted`)
		case reserved(lower, r.own, r.prefixes) != "":
			return fmt.Errorf(`the key "headers" sets %s, which cannot be set there`, reserved(lower, r.own, r.prefixes))
		case seen[lower]:
			return errors.New(`the key "headers" has one name twice, in different spellings`)
		case !r.safe(headers[name]):
			return fmt.Errorf(`the key "headers" has a value with %s in it`, r.unsafe)
		case len(headers[name]) > r.longest:
			return fmt.Errorf(`the key "headers" has a value of %d bytes; at most %d are accepted`, len(headers[name]), r.longest)
		}
		seen[lower] = true
	}
	return nil
}

// reserved returns which of names, or of the beginnings in prefixes, the lower
// case header name is, for use in a sentence; "" when it is none of them.
func reserved(name string, names, prefixes []string) string {
	if slices.Contains(names, name) {
		return name
	}
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return "one of the headers " + p + "…"
		}
	}
	return ""
}

// headerSafe reports whether s may stand in a header: valid UTF-8 without
// CR, LF, NUL or any other control character, and without the Unicode line
// breaks that some programs honor.
func headerSafe(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	}) < 0
}

// token reports whether s is a token in the sense of RFC 9110, 5.6.2. Header
// names of mail and HTTP are.
func token(s string) bool {
	const special = "!#$%&'*+-.^_`|~"
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(special, r))
	}) < 0
}
