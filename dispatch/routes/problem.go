package routes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is something that is wrong with a routes file, and what would mend it.
type Problem struct {
	Line, Column int // from 1; columns count characters; 0 where the file as a whole is meant
	Message      string
}

// Problems are all that is wrong with a routes file, in the order of the file.
type Problems struct {
	File string
	List []Problem
}

// Error has a line for each problem: file:line:column: message.
func (p *Problems) Error() string {
	var b strings.Builder
	for i, one := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.File)
		if one.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", one.Line, one.Column)
		}
		b.WriteString(": " + one.Message)
	}
	return b.String()
}

// maxProblems bounds what is listed: who sees that many mends some and asks
// again.
const maxProblems = 100

// findings collects problems.
type findings struct{ list []Problem }

// add notes a problem with n as a whole.
func (f *findings) add(n *node, format string, args ...any) { f.addAt(n, 0, 0, format, args...) }

// addAt notes a problem at a place within the text of n; line 0 means n as a
// whole.
func (f *findings) addAt(n *node, line, column int, format string, args ...any) {
	p := Problem{Message: fmt.Sprintf(format, args...)}
	switch {
	case n == nil:
	case line > 0:
		p.Line, p.Column = n.within(line, column)
	default:
		p.Line, p.Column = n.line, n.column
	}
	f.list = append(f.list, p)
}

// problems returns what was found in file as an error, nil where nothing was.
func (f *findings) problems(file string) error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	list := slices.Compact(f.list)
	if more := len(list) - maxProblems; more > 0 {
		list = append(list[:maxProblems:maxProblems], Problem{Message: fmt.Sprintf("and %d more", more)})
	}
	return &Problems{File: file, List: list}
}
