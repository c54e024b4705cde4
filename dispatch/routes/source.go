package routes

import (
	"strings"
	"unicode/utf8"
)

// The bounds of a file. They are far from what a person writes, and near enough
// for a file to be read in a moment and in little memory.
const (
	maxBytes   = 1 << 20
	maxNesting = 32
	maxNodes   = 100_000
	maxKeys    = 1000    // of one mapping: the YAML parser calls itself for each of them
	maxSigns   = 200_000 // of what YAML's signs are made from: each may cost 200 bytes before anything is known
	maxLines   = 100_000
	maxWork    = 1 << 26 // for each tab the YAML scanner reads its line to the end, and for each < those that follow
)

// at is a node for a problem at a place that has none.
func at(line, column int) *node { return &node{line: line, column: column} }

// readable returns source as the text that is parsed: without a byte order mark,
// each line ended by a line feed, which no place depends on. Of what is not such
// a text it notes the first problem, and returns false.
func readable(source []byte, f *findings) (string, bool) {
	if len(source) > maxBytes {
		f.add(nil, "the file has %d bytes; at most %d are accepted", len(source), maxBytes)
		return "", false
	}
	s := string(source)
	if strings.HasPrefix(s, "\xff\xfe") || strings.HasPrefix(s, "\xfe\xff") {
		f.add(nil, "the file is UTF-16; save it as UTF-8")
		return "", false
	}
	s = strings.TrimPrefix(s, "\ufeff")
	s = strings.ReplaceAll(s, "\r\n", "\n")

	line, column, signs, tabs, run, work := 1, 0, 0, 0, 0, 0
	for i, r := range s {
		column++
		if r != '<' {
			run = 0
		}
		switch {
		case r == '\n':
			work += tabs * column
			line, column, tabs = line+1, 0, 0
		case r == '\t':
			tabs++
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			f.add(at(line, column), "this is not UTF-8; save the file as UTF-8")
			return "", false
		case r == '\r':
			f.add(at(line, column), "a carriage return stands alone here; end lines with a line feed")
			return "", false
		case r < ' ', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff, r == 0xfeff:
			f.add(at(line, column), "the character %U cannot stand here; leave it out, or write it as an escape in double quotes", r)
			return "", false
		case r == '<':
			run++
			work += run
		case r < 0x7f && strings.ContainsRune("[]{},:-?&*!|>@%`#'\"", r):
			signs++
		}
	}
	if signs > maxSigns {
		f.add(nil, "the file has more than %d of the signs that YAML is made of", maxSigns)
		return "", false
	}
	if line > maxLines {
		f.add(nil, "the file has more than %d lines", maxLines)
		return "", false
	}
	if work+tabs*column > maxWork {
		f.add(nil, "the file has too many tabs in long lines, or too many < in a row; leave some of them out")
		return "", false
	}
	return s, true
}
