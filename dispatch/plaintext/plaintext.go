// Package plaintext makes the text of an e-mail from its HTML, for readers and
// programs that want text.
package plaintext

import (
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// FromHTML returns what markup says, as text with LF line ends: paragraphs and
// headings apart, list items behind "- " or their number, quotes behind "> ",
// the cells of a table's row behind " | ", links as "text (URL)", pictures as
// their alternative text. Scripts, styles, comments and what is hidden are left
// out. It is "" where nothing is to be read, as in a mail that is one picture.
//
// The same markup always gives the same text. Whatever the markup is, there is
// no error: what is not HTML is taken as a browser would.
//
// Tags are read one after the other, without a tree. So time and memory grow
// with the length of markup alone, however deep or wrong it is nested; the
// price is that an element whose end is missing ends with what is around it.
func FromHTML(markup string) string {
	r := reader{tags: html.NewTokenizer(strings.NewReader(strings.ToValidUTF8(markup, "\uFFFD")))}
	for {
		switch r.tags.Next() {
		case html.ErrorToken: // the end: a strings.Reader has no other error
			r.endLink()
			return r.out.String()
		case html.TextToken:
			r.text(string(r.tags.Text()))
		case html.StartTagToken:
			r.start(false)
		case html.SelfClosingTagToken:
			r.start(true)
		case html.EndTagToken:
			r.end()
		}
	}
}

// reader turns tags into what a writer writes.
type reader struct {
	tags *html.Tokenizer
	writer

	skip  string // the element that is left out with all that is in it; "" for none
	depth int    // how many of that name are open
	pre   int    // how many pre are open

	url string // of the link that is open; "" for none
}

func (r *reader) text(s string) {
	switch {
	case r.skip != "":
	case r.pre > 0:
		r.preformatted(s)
	default:
		r.words(s)
	}
}

// start reads a start tag. closed says that it ends in "/>", which means
// something only for drawings and formulas.
func (r *reader) start(closed bool) {
	tag, more := r.tags.TagName()
	el := atom.Lookup(tag)
	closed = closed && (el == atom.Svg || el == atom.Math)
	if r.skip != "" {
		if string(tag) == r.skip && !closed {
			r.depth++
		}
		return
	}
	a := r.attributes(more)
	switch {
	case closed:
		return
	case unseen[el], a.hidden && !endless[el]:
		r.skip, r.depth = string(tag), 1
		return
	}
	r.lines(breaks[el])
	switch el {
	case atom.A:
		r.endLink()
		r.url = address(a.href)
		r.mark()
	case atom.Img:
		r.words(a.alt)
	case atom.Br:
		r.line()
	case atom.Hr:
		r.words("----------")
		r.lines(paragraph)
	case atom.Ul, atom.Menu, atom.Dir:
		r.indent(level{kind: list})
	case atom.Ol:
		r.indent(level{kind: list, ordered: true, number: number(a.start, 1)})
	case atom.Blockquote:
		r.indent(level{kind: quote})
	case atom.Li:
		r.item(a.value)
	case atom.Td, atom.Th:
		r.cell()
	case atom.Pre:
		r.pre++
	}
}

func (r *reader) end() {
	tag, _ := r.tags.TagName()
	if r.skip != "" {
		if string(tag) == r.skip {
			if r.depth--; r.depth == 0 {
				r.skip = ""
			}
		}
		return
	}
	el := atom.Lookup(tag)
	r.lines(breaks[el])
	switch el {
	case atom.A:
		r.endLink()
	case atom.Ul, atom.Menu, atom.Dir, atom.Ol:
		r.outdent(list)
	case atom.Blockquote:
		r.outdent(quote)
	case atom.Li:
		r.marker = ""
	case atom.Pre:
		r.pre = max(r.pre-1, 0)
	}
}

// endLink writes where the open link leads, unless its text says so already.
func (r *reader) endLink() {
	if r.url == "" {
		return
	}
	switch said := r.sinceMark(); {
	case said == "":
		r.words(" " + r.url + " ")
	case !same(said, r.url):
		r.aside(r.url)
	}
	r.url = ""
}

// attributes are those that matter. Of several of one name the first counts.
type attributes struct {
	href, alt, start, value string
	hidden                  bool
}

func (r *reader) attributes(more bool) (a attributes) {
	var seen [4]bool
	for more {
		var key, value []byte
		key, value, more = r.tags.TagAttr()
		for i, f := range []struct {
			name string
			to   *string
		}{{"href", &a.href}, {"alt", &a.alt}, {"start", &a.start}, {"value", &a.value}} {
			if string(key) == f.name && !seen[i] {
				*f.to, seen[i] = string(value), true
			}
		}
		switch string(key) {
		case "hidden":
			a.hidden = true
		case "style": // the usual way to write a line that only the list of mails shows
			style := strings.ToLower(strings.Join(strings.Fields(string(value)), ""))
			a.hidden = a.hidden || strings.Contains(style, "display:none")
		}
	}
	return a
}

// number reads the number of a list item, or returns or where there is none.
func number(s string, or int) int {
	if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32); err == nil {
		return int(n)
	}
	return or
}
