package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func otherwise(_ call, args []any) (any, error) {
	if empty(args[0]) {
		return args[1], nil
	}
	return args[0], nil
}

// checkDefault catches the order of other template languages.
func checkDefault(_ *Set, args []literal) (int, error) {
	if args[0].value != nil && args[1].value == nil {
		return 0, errors.New(`the value comes first, as in default .payload.name "there"`)
	}
	return 0, nil
}

func join(c call, args []any) (any, error) {
	between := ", "
	if len(args) > 1 {
		s, err := plain(args[1])
		if err != nil {
			return nil, err
		}
		between = s
	}
	before, err := option(args, 2, between)
	if err != nil {
		return nil, err
	}
	var list []any
	switch v := args[0].(type) {
	case []any:
		list = v
	case Null:
	default:
		return nil, errors.New("it is given " + kind(v) + ", and takes a list")
	}
	if err := c.run.spend(len(list) * workPerNode); err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, e := range list {
		e, err := normal(e)
		if err != nil {
			return nil, err
		}
		s, ok := text(e)
		if !ok {
			return nil, fmt.Errorf("the list has %s in it; use range to write its elements", kind(e))
		}
		switch {
		case i == 0:
		case i == len(list)-1:
			b.WriteString(before)
		default:
			b.WriteString(between)
		}
		b.WriteString(s)
		if b.Len() > maxText {
			return nil, errLong
		}
	}
	return b.String(), nil
}

// title makes the first letter of each word a capital. An apostrophe does not
// end a word.
func title(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		first := !inside
		inside = unicode.IsLetter(r) || unicode.IsDigit(r) || inside && (r == '\'' || r == '’' || unicode.Is(unicode.M, r))
		if first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func checkTruncate(_ *Set, args []literal) (int, error) {
	if n, ok := args[1].value.(int64); ok && n < 1 || args[1].value != nil && !ok {
		return 1, errors.New("it takes a number of characters, as in truncate .payload.notes 100")
	}
	if len(args) > 2 {
		if unit, ok := args[2].value.(string); ok {
			return 2, checkUnit(unit)
		}
	}
	return 0, nil
}

func checkUnit(unit string) error {
	switch unit {
	case "characters", "segments", "":
		return nil
	}
	return errors.New(`the third value has to be "characters" or "segments"`)
}

func truncate(_ call, args []any) (any, error) {
	s, ok := text(args[0])
	if !ok {
		return nil, errors.New("it is given " + kind(args[0]) + ", and takes text")
	}
	n, err := whole(args[1])
	if err != nil {
		return nil, err
	}
	unit, err := option(args, 2, "characters")
	if err != nil {
		return nil, err
	}
	if err := checkUnit(unit); err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, errors.New("it takes a number of characters from 1")
	}
	fits := func(s string) bool { return int64(utf8.RuneCountInString(s)) <= n }
	if unit == "segments" {
		fits = func(s string) bool {
			_, _, segments := dispatch.Segments(s)
			return int64(segments) <= n
		}
	}
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	} else if fits(s) {
		return s, nil
	}
	dots := "…"
	if encoding, _, _ := dispatch.Segments(s); encoding == dispatch.GSM7 {
		dots = "..."
	}
	// What fits grows with its length, but for the change from one encoding to
	// the other, which is ruled out by the dots.
	ends := []int{0}
	for i := range s {
		if i > 0 && !joined(s, i) {
			ends = append(ends, i)
		}
	}
	cut := sort.Search(len(ends), func(i int) bool { return !fits(s[:ends[i]] + dots) })
	if cut == 0 {
		// Not even the dots fit.
		return dots[:min(int64(len(dots)), n)], nil
	}
	return strings.TrimRightFunc(s[:ends[cut-1]], unicode.IsSpace) + dots, nil
}

// joined reports whether the character at i belongs to the one before it: an
// accent, a modifier of an emoji, or what follows a joiner.
func joined(s string, i int) bool {
	const joiner = '\u200d'
	r, _ := utf8.DecodeRuneInString(s[i:])
	last, _ := utf8.DecodeLastRuneInString(s[:i])
	return unicode.Is(unicode.M, r) || r == joiner || last == joiner || r >= 0x1f3fb && r <= 0x1f3ff
}

// escape percent-encodes all but the characters that have no meaning in any part
// of a URL (RFC 3986, section 2.3).
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, ch := range []byte(s) {
		if letter(ch) || ch >= '0' && ch <= '9' || strings.IndexByte("-._~", ch) >= 0 {
			b.WriteByte(ch)
		} else {
			b.Write([]byte{'%', hex[ch>>4], hex[ch&15]})
		}
	}
	return b.String()
}

func urlPart(_ call, args []any) (any, error) {
	s, err := plain(args[0])
	if err != nil {
		return nil, err
	}
	if s == "." || s == ".." {
		return nil, errors.New("a part of a path cannot be . or .., which lead to another one")
	}
	return escape(s), nil
}

func toJSON(_ call, args []any) (any, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(args[0]); err != nil {
		return nil, errors.New("it cannot be written as JSON")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
