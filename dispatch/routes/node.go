package routes

// node is a value of the file as it was written, with where it stands.
type node struct {
	kind  kind
	style style
	value string  // of a scalar: what it says
	keys  []*node // of a mapping: scalars, in the file's order
	items []*node // of a mapping, each for the key in the same place; of a list

	line, column int // where it begins, from 1; columns count characters

	// Where the text of a scalar begins: behind a quotation mark, or in the line
	// behind | and its indentation. In a literal block each line of the text is one
	// of the file; in a folded one, and in a quoted or plain one of several lines,
	// nobody can tell.
	textLine, textColumn int
}

type kind int

const (
	null kind = iota
	boolean
	integer
	float
	str
	list
	mapping
)

type style int

const (
	plain style = iota
	quoted
	literal
	folded
	flow // of a mapping or list: in braces or brackets
)

// within says where the place line, column of n's text, both from 1, stands in
// the file: exactly in a literal block and in a text of one line, else where n
// begins.
func (n *node) within(line, column int) (int, int) {
	switch {
	case n.style == literal && line >= 1:
		return n.textLine + line - 1, n.textColumn + max(column, 1) - 1
	case n.style != folded && line == 1 && n.textLine == n.line:
		return n.textLine, n.textColumn + max(column, 1) - 1
	}
	return n.line, n.column
}
