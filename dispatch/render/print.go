package render

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// printed joins values as fmt.Sprint and fmt.Sprintln do.
func printed(line bool) func(call, []any) (any, error) {
	return func(_ call, args []any) (any, error) {
		var b strings.Builder
		spaced := false // whether the value before was not text
		for i, v := range args {
			s, err := plain(v)
			if err != nil {
				return nil, err
			}
			_, isText := v.(string)
			if i > 0 && (line || spaced && !isText) {
				b.WriteByte(' ')
			}
			spaced = !isText
			b.WriteString(s)
			if b.Len() > maxText {
				return nil, errLong
			}
		}
		if line {
			b.WriteByte('\n')
		}
		return b.String(), nil
	}
}

// verb is a part of a format: a text, or the way to write one value.
type verb struct {
	text      string // for kind 0
	kind      byte   // 0, s, q, d, f, t, v
	minus     bool   // padded on the right
	plus      bool   // with its sign
	zero      bool   // padded with zeros
	width     int
	precision int // -1 when there is none
}

const maxWidth = 100

// parseFormat reads a format of printf.
func parseFormat(format string) ([]verb, error) {
	var verbs []verb
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			i = len(format)
		}
		if i > 0 {
			verbs = append(verbs, verb{text: format[:i]})
			format = format[i:]
			continue
		}
		v := verb{precision: -1}
		rest := format[1:]
	flags:
		for rest != "" {
			switch rest[0] {
			case '-':
				v.minus = true
			case '+':
				v.plus = true
			case '0':
				v.zero = true
			default:
				break flags
			}
			rest = rest[1:]
		}
		var err error
		if v.width, rest, err = digits(rest, 0); err != nil {
			return nil, err
		}
		if strings.HasPrefix(rest, ".") {
			if v.precision, rest, err = digits(rest[1:], 0); err != nil {
				return nil, err
			}
		}
		if rest == "" {
			return nil, errors.New("the format ends after a %; write %% for a percent sign")
		}
		v.kind = rest[0]
		format = rest[1:]
		switch v.kind {
		case '%':
			verbs = append(verbs, verb{text: "%"})
		case 's', 'q', 'd', 'f', 't', 'v':
			verbs = append(verbs, v)
		default:
			r, _ := utf8.DecodeRuneInString(rest)
			return nil, fmt.Errorf("%%%c is not accepted; there are %%s, %%q, %%d, %%f, %%t, %%v and %%%%", r)
		}
	}
	return verbs, nil
}

func digits(s string, otherwise int) (n int, rest string, err error) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end == 0 {
		return otherwise, s, nil
	}
	n, err = strconv.Atoi(s[:end])
	if err != nil || n > maxWidth {
		return 0, s, fmt.Errorf("a width or a number of decimals may be at most %d", maxWidth)
	}
	return n, s[end:], nil
}

func checkPrintf(_ *Set, args []literal) (int, error) {
	format, ok := args[0].value.(string)
	if !ok {
		return 0, errors.New(`the format has to be a text in quotes, as in printf "%.2f" .payload.total`)
	}
	verbs, err := parseFormat(format)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, v := range verbs {
		if v.kind != 0 {
			n++
		}
	}
	if n != len(args)-1 {
		return 0, fmt.Errorf("the format writes %s, and there %s", count(n, "value"), are(len(args)-1))
	}
	return 0, nil
}

func are(n int) string {
	if n == 1 {
		return "is 1"
	}
	return "are " + strconv.Itoa(n)
}

func printf(_ call, args []any) (any, error) {
	format, _ := args[0].(string)
	verbs, err := parseFormat(format)
	if err != nil {
		return nil, err
	}
	args = args[1:]
	var b strings.Builder
	for _, v := range verbs {
		s := v.text
		if v.kind != 0 {
			if len(args) == 0 {
				return nil, errors.New("the format has more % than there are values")
			}
			if s, err = v.write(args[0]); err != nil {
				return nil, err
			}
			args = args[1:]
		}
		b.WriteString(s)
		if b.Len() > maxText {
			return nil, errLong
		}
	}
	return b.String(), nil
}

// write writes one value. Null is written as "" whatever the verb, but padded.
func (v verb) write(value any) (string, error) {
	s, err := plain(value)
	if err != nil {
		return "", err
	}
	numeric := isNumber(value)
	switch v.kind {
	case 'd', 'f':
		if isNull(value) {
			break
		}
		n, err := amount(value)
		if err != nil {
			return "", fmt.Errorf("%%%c: %w", v.kind, err)
		}
		numeric = true
		if v.kind == 'd' {
			if !n.IsInt() {
				return "", errors.New("%d: it is not a whole number; use %.2f")
			}
			s = new(big.Int).Set(n.Num()).String()
			break
		}
		precision := v.precision
		if precision < 0 {
			precision = 6
		}
		s = n.FloatString(precision)
	case 't':
		if _, ok := value.(bool); !ok && !isNull(value) {
			return "", errors.New("%t: it is given " + kind(value) + ", and takes true or false")
		}
	case 's', 'v', 'q':
		if v.precision >= 0 {
			s = firstRunes(s, v.precision)
			numeric = false
		}
		if v.kind == 'q' {
			s = strconv.Quote(s)
		}
	}
	return v.pad(s, numeric), nil
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func (v verb) pad(s string, numeric bool) string {
	if numeric && v.plus && !strings.HasPrefix(s, "-") {
		s = "+" + s
	}
	missing := v.width - utf8.RuneCountInString(s)
	switch {
	case missing <= 0:
		return s
	case v.minus:
		return s + strings.Repeat(" ", missing)
	case numeric && v.zero:
		sign := ""
		if s[0] == '-' || s[0] == '+' {
			sign, s = s[:1], s[1:]
		}
		return sign + strings.Repeat("0", missing) + s
	}
	return strings.Repeat(" ", missing) + s
}
