package calendar

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxLine is the longest line in octets, without its CRLF (RFC 5545, 3.1).
const maxLine = 75

// writer collects lines.
type writer struct{ strings.Builder }

// line writes one line, folded where it is too long, never within a character.
// Whatever is given has to be free of control characters by now.
func (w *writer) line(s string) {
	room := maxLine
	for len(s) > room {
		n := room
		for !utf8.RuneStart(s[n]) {
			n--
		}
		w.WriteString(s[:n])
		w.WriteString("\r\n ")
		s, room = s[n:], maxLine-1 // the blank counts
	}
	w.WriteString(s)
	w.WriteString("\r\n")
}

// utc returns a time in the form of RFC 5545, 3.3.5.
func utc(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

var (
	// U+2028 and U+2029 are no line ends here, but to some programs they are.
	lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n")
	escapes  = strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\n", `\n`) // RFC 5545, 3.3.11
	carets   = strings.NewReplacer("^", "^^", `"`, "^'", "\n", "^n")            // RFC 6868
)

// clean returns s with LF for all line ends, and without the control
// characters that no value may have.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, lineEnds.Replace(s))
}

// text returns s as a value of type TEXT.
func text(s string) string { return escapes.Replace(clean(s)) }

// parameter returns s as the value of a parameter, in quotes where it has to
// be (RFC 5545, 3.2).
func parameter(s string) string {
	s = carets.Replace(clean(s))
	if strings.ContainsAny(s, ":;,") {
		return `"` + s + `"`
	}
	return s
}
