package plaintext

import (
	"strconv"
	"strings"
	"unicode"
)

// maxLevels is how deep lists and quotes are indented. What is deeper stands
// as far in as the last: each line pays for the levels around it, and markup
// could ask for thousands.
const maxLevels = 6

// writer puts words into lines. What stands between two of them is decided
// when the second comes, so that nothing is left at the end of a line, at the
// end of the text or around what turned out empty.
type writer struct {
	out strings.Builder

	ends   int    // line ends before the next word, at most paragraph
	space  bool   // a blank before it, or
	bar    bool   // what separates two cells
	marker string // what the next line of a list begins with instead of its indentation; "" for nothing

	levels []level
	deeper int // levels beyond maxLevels

	marked int // where the first word after mark begins; -1 while none has come
}

// level is a list or a quote that is open.
type level struct {
	kind    kind
	ordered bool
	number  int // of the next item
}

type kind int

const (
	list kind = iota
	quote
)

// words writes text whose white space means no more than a blank.
func (w *writer) words(s string) {
	for s != "" {
		i := strings.IndexFunc(s, unicode.IsSpace)
		if i == 0 {
			w.space = true
			s = strings.TrimLeftFunc(s, unicode.IsSpace)
			continue
		}
		if i < 0 {
			i = len(s)
		}
		w.word(strings.Map(shown, s[:i]))
		s = s[i:]
	}
}

// preformatted writes text whose blanks and line ends are meant.
func (w *writer) preformatted(s string) {
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			w.line()
		}
		line = strings.Map(shown, line)
		if strings.TrimSpace(line) == "" {
			w.space = w.space || line != ""
			continue
		}
		w.word(line)
	}
}

// word writes s, without a line end in it, behind what is due before it.
func (w *writer) word(s string) {
	if s == "" {
		return
	}
	switch {
	case w.out.Len() == 0:
		w.begin()
	case w.ends > 0:
		w.out.WriteString("\n\n"[:w.ends])
		w.begin()
	case w.bar:
		w.out.WriteString(" | ")
	case w.space:
		w.out.WriteByte(' ')
	}
	if w.marked < 0 {
		w.marked = w.out.Len()
	}
	w.out.WriteString(s)
	w.ends, w.space, w.bar = 0, false, false
}

// begin writes what a line begins with.
func (w *writer) begin() {
	last := w.lastList()
	for i, l := range w.levels {
		switch {
		case i == last && w.marker != "":
			w.out.WriteString(w.marker)
			w.marker = ""
		case l.kind == quote:
			w.out.WriteString("> ")
		case l.ordered:
			w.out.WriteString("   ")
		default:
			w.out.WriteString("  ")
		}
	}
	w.out.WriteString(w.marker) // of an item without a list
	w.marker = ""
}

// lastList is the index of the innermost list among the levels, or -1.
func (w *writer) lastList() int {
	for i := len(w.levels) - 1; i >= 0; i-- {
		if w.levels[i].kind == list {
			return i
		}
	}
	return -1
}

// lines asks for at least n line ends before the next word.
func (w *writer) lines(n int) { w.ends = max(w.ends, n) }

// line asks for one line end more; two in a row make an empty line, and there
// is never more than one of these.
func (w *writer) line() { w.ends = min(w.ends+1, paragraph) }

// cell separates what follows from what stands in the same line.
func (w *writer) cell() { w.bar = w.ends == 0 && w.out.Len() > 0 }

// item begins an item of the innermost list; value is the number that it asks
// for, or "".
func (w *writer) item(value string) {
	w.marker = "- "
	if i := w.lastList(); i >= 0 && w.levels[i].ordered && w.deeper == 0 {
		l := &w.levels[i]
		l.number = number(value, l.number)
		w.marker = strconv.Itoa(l.number) + ". "
		l.number++
	}
}

// indent opens a level. An outermost list is a paragraph.
func (w *writer) indent(l level) {
	if len(w.levels) == 0 {
		w.lines(paragraph)
	}
	if w.deeper > 0 || len(w.levels) == maxLevels {
		w.deeper++
		return
	}
	w.levels = append(w.levels, l)
}

// outdent closes the innermost level of kind k, and those within it whose end
// tag is missing.
func (w *writer) outdent(k kind) {
	w.marker = ""
	if w.deeper > 0 {
		w.deeper--
		return
	}
	for i := len(w.levels) - 1; i >= 0; i-- {
		if w.levels[i].kind == k {
			w.levels = w.levels[:i]
			break
		}
	}
	if len(w.levels) == 0 {
		w.lines(paragraph)
	}
}

// mark has sinceMark return what is written from here on.
func (w *writer) mark() { w.marked = -1 }

// sinceMark returns what was written since mark, from its first word on.
func (w *writer) sinceMark() string {
	if w.marked < 0 {
		return ""
	}
	return w.out.String()[w.marked:]
}

// aside writes s in brackets right behind the last word.
func (w *writer) aside(s string) {
	w.out.WriteString(" (" + s + ")")
}

// shown drops what has no place in a text: control characters and those that
// only pad the line that the list of mails shows.
func shown(r rune) rune {
	switch {
	case r == '\u00A0':
		return ' '
	case unicode.IsControl(r) && r != '\t', invisible(r):
		return -1
	}
	return r
}

// invisible reports whether r is a character without width that means nothing:
// soft hyphen, combining grapheme joiner, zero width space, word joiner, byte
// order mark. Joiners stay, since emoji and whole scripts need them.
func invisible(r rune) bool {
	switch r {
	case '\u00AD', '\u034F', '\u200B', '\u2060', '\uFEFF':
		return true
	}
	return false
}
