package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error says where a template is wrong, or where it could not go on, and what
// would mend it. It has names of keys in it, never values.
type Error struct {
	Name    string // the template's
	Line    int    // within the template, from 1; 0 when the template as a whole is meant
	Column  int    // in characters, from 1; 0 when the line or template as a whole is meant
	Message string
}

func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return fmt.Sprintf("%s: %s", e.Name, e.Message)
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Name, e.Line, e.Column, e.Message)
}

// place turns a byte offset into a line and a column.
func place(source string, offset int) (line, column int) {
	offset = min(max(offset, 0), len(source))
	before := source[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:])
}

// most is how many names an error lists.
const most = 12

// nearest sorts names by how far they are from word, and cuts the list.
func nearest(word string, names []string) []string {
	slices.Sort(names)
	names = names[:min(len(names), 1000)]
	far := make(map[string]int, len(names))
	for _, n := range names {
		far[n] = distance(word, n)
	}
	slices.SortStableFunc(names, func(a, b string) int { return far[a] - far[b] })
	names = names[:min(len(names), most)]
	for i, n := range names {
		names[i] = short(n)
	}
	return names
}

// short makes a name fit for a message.
func short(name string) string {
	const longest = 40
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, name)
	if utf8.RuneCountInString(name) > longest {
		name = string([]rune(name)[:longest-1]) + "…"
	}
	return name
}

// clip keeps a message readable whatever stands in a template.
func clip(message string) string {
	const longest = 1000
	if len(message) <= longest {
		return message
	}
	return strings.ToValidUTF8(message[:longest], "") + "…"
}

// distance is Distance where case does not count. It does not look at more than
// 40 letters.
func distance(a, b string) int { return Distance(fold(a), fold(b)) }

// Distance counts the letters to change, add, drop or swap with their neighbour to
// make y of x. The work grows with the product of their lengths.
func Distance(x, y []rune) int {
	var before []int
	last := make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row := make([]int, len(y)+1)
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(y)]
}

func fold(s string) []rune {
	r := []rune(strings.ToLower(s[:min(len(s), 160)]))
	return r[:min(len(r), 40)]
}
