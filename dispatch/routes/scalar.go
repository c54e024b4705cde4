package routes

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What a text of several lines says is worked out here, from the file: the
// library folds some of them otherwise than YAML 1.2 does (blanks at the end of
// a block's line, empty lines, a line of a plain text that begins with -), and
// they are what people are sent.

// flowText is what raw says, which is a plain text (quote 0), or what stands
// between quotes. bad is the first escape that means no character, -1 where
// there is none.
func flowText(raw []rune, quote rune) (value string, bad int) {
	var out []rune
	bad = -1
	keep := 0 // how much of out line breaks leave as it is
	skip := func(i int) int {
		for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t') {
			i++
		}
		return i
	}
	for i := 0; i < len(raw); {
		switch r := raw[i]; {
		case r == '\n':
			for len(out) > keep && (out[len(out)-1] == ' ' || out[len(out)-1] == '\t') {
				out = out[:len(out)-1]
			}
			breaks := 0
			for i = skip(i + 1); i < len(raw) && raw[i] == '\n'; i = skip(i + 1) {
				out = append(out, '\n')
				breaks++
			}
			if breaks == 0 {
				out = append(out, ' ')
			}
			keep = len(out)
		case r == '\'' && quote == '\'':
			out = append(out, r)
			i += 2
		case r == '\\' && quote == '"':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				for i = skip(i + 2); i < len(raw) && raw[i] == '\n'; i = skip(i + 1) {
					out = append(out, '\n')
				}
				keep = len(out)
				continue
			}
			c, length := escape(raw[i:])
			if length == 0 {
				if bad < 0 {
					bad = i
				}
				c, length = utf8.RuneError, 2
			}
			out = append(out, c)
			i += length
			keep = len(out)
		default:
			out = append(out, r)
			i++
		}
	}
	return string(out), bad
}

var escapes = map[rune]rune{
	'0': 0, 'a': '\a', 'b': '\b', 't': '\t', '\t': '\t', 'n': '\n', 'v': '\v', 'f': '\f', 'r': '\r', 'e': 0x1b,
	' ': ' ', '"': '"', '/': '/', '\\': '\\', 'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029,
}

// escape returns the character that the escape at the beginning of s means, and
// its length, 0 where it means none. Two escapes of halves of a character are
// one, as in JSON.
func escape(s []rune) (r rune, length int) {
	if len(s) < 2 {
		return 0, 0
	}
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 {
		r, ok := escapes[s[1]]
		if !ok {
			return 0, 0
		}
		return r, 2
	}
	r, ok := hex(s[2:], digits)
	switch {
	case !ok:
		return 0, 0
	case digits == 4 && utf16.IsSurrogate(r) && len(s) > 8 && s[6] == '\\' && s[7] == 'u':
		second, _ := hex(s[8:], 4)
		if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
			return 0, 0
		}
		return r, 12
	case !utf8.ValidRune(r):
		return 0, 0
	}
	return r, 2 + digits
}

func hex(s []rune, digits int) (rune, bool) {
	if len(s) < digits {
		return 0, false
	}
	var code int64
	for _, r := range s[:digits] {
		i := strings.IndexRune("0123456789abcdef", r|0x20)
		if i < 0 || r < '0' {
			return 0, false
		}
		code = code<<4 | int64(i)
	}
	if code > utf8.MaxRune {
		return 0, false
	}
	return rune(code), true
}

// blockText is what a block says: lines are those of the file behind its header,
// which is | or >, with - or + where it has them, and indent is how many spaces
// its lines begin with.
func blockText(header string, lines []string, indent int) string {
	isFolded := strings.HasPrefix(header, ">")
	var b strings.Builder
	breaks := 0        // those behind the last line that is not empty
	before := false    // whether that one begins with a blank
	something := false // whether there is one
	for i, line := range lines {
		if i == len(lines)-1 && strings.Trim(line, " ") == "" {
			break // behind the file's last line feed
		}
		spaces := len(line) - len(strings.TrimLeft(line, " "))
		if spaces < indent && strings.Trim(line, " \t") != "" {
			break
		}
		rest := line[min(len(line), min(spaces, indent)):]
		if spaces < indent || rest == "" {
			breaks++
			continue
		}
		blankFirst := rest[0] == ' ' || rest[0] == '\t'
		switch {
		case !something || !isFolded || before || blankFirst:
			b.WriteString(strings.Repeat("\n", breaks))
		case breaks == 1:
			b.WriteByte(' ')
		default:
			b.WriteString(strings.Repeat("\n", breaks-1))
		}
		b.WriteString(rest)
		breaks, before, something = 1, blankFirst, true
		if i == len(lines)-1 {
			breaks = 0 // the file ends without a line feed
		}
	}
	switch {
	case strings.Contains(header, "+"):
		b.WriteString(strings.Repeat("\n", breaks))
	case !strings.Contains(header, "-") && something && breaks > 0:
		b.WriteByte('\n')
	}
	return b.String()
}
