package render

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"regexp"
	"sort"
	"strings"
	texttemplate "text/template"
	"text/template/parse"
	"unicode/utf8"
)

// inner is the name of a template within text/template, whose messages begin
// with it.
const inner = "t"

func (s *Set) load(t *Template) (*Template, error) {
	if len(t.source) > t.limit {
		return nil, t.whole(fmt.Sprintf("the template is longer than %d KiB", t.limit>>10))
	}
	if !utf8.ValidString(t.source) {
		return nil, t.whole("the template is not valid UTF-8")
	}
	trees := map[string]*parse.Tree{}
	tree, err := parseTree(t.source, trees)
	if err != nil {
		return nil, t.syntax(err)
	}
	for _, other := range trees {
		if other != tree {
			return nil, t.defines()
		}
	}
	if e := t.compile(tree); e != nil {
		return nil, e
	}
	if !t.html {
		if fixed, ok := onlyText(tree.Root); ok {
			t.fixed = &fixed
			return t, nil
		}
		p, err := texttemplate.New(inner).Funcs(bound).AddParseTree(inner, tree)
		if err != nil {
			return nil, t.whole(err.Error())
		}
		t.execute = p.Execute
		return t, nil
	}
	p, err := htmltemplate.New(inner).Funcs(bound).AddParseTree(inner, tree)
	if err != nil {
		return nil, t.whole(err.Error())
	}
	// Escaping happens with the first execution. This one does nothing else.
	err = p.Execute(io.Discard, &run{t: t, probe: true})
	if bad, ok := errors.AsType[*htmltemplate.Error](err); ok {
		return nil, t.misplaced(bad)
	}
	t.execute = p.Execute
	return t, nil
}

func onlyText(list *parse.ListNode) (string, bool) {
	var b strings.Builder
	for _, n := range list.Nodes {
		text, ok := n.(*parse.TextNode)
		if !ok {
			return "", false
		}
		b.Write(text.Text)
	}
	return b.String(), true
}

func parseTree(source string, trees map[string]*parse.Tree) (*parse.Tree, error) {
	tree := parse.New(inner)
	tree.Mode = parse.SkipFuncCheck // compile knows better where and what
	return tree.Parse(source, "", "", trees)
}

// action is an action of a template that was not parsed.
type action struct {
	start int
	word  string // what it begins with
}

var (
	opening   = regexp.MustCompile(`\{\{(?:-\s)?\s*(\w*)`)
	lineError = regexp.MustCompile(`^template: ` + inner + `:(\d+): `)
)

// actions finds the actions of the source, and perhaps more: it does not look for
// strings and comments. It only serves to put errors in their places.
func (t *Template) actions() []action {
	var found []action
	for _, m := range opening.FindAllStringSubmatchIndex(t.source, -1) {
		found = append(found, action{start: m[0], word: t.source[m[2]:m[3]]})
	}
	return found
}

const alone = "{{define}}, {{template}} and {{block}} are not accepted, since a template stands alone; repeat the text, or make it a value under let"

// defines refuses a definition, which text/template takes out of the tree.
func (t *Template) defines() *Error {
	for _, a := range t.actions() {
		if a.word == "define" || a.word == "block" {
			return t.at(a.start, alone)
		}
	}
	return t.whole(alone)
}

// syntax puts text/template's words about source in their place. They have a
// line only; the action in question is the first one with which the source up to
// its end is wrong for another reason than that it ends.
func (t *Template) syntax(err error) *Error {
	message := lineError.ReplaceAllString(err.Error(), "")
	found := t.actions()
	if message == "unexpected EOF" {
		return t.unclosed(found)
	}
	end := func(i int) int {
		if i+1 < len(found) {
			return found[i+1].start
		}
		return len(t.source)
	}
	i := sort.Search(len(found), func(i int) bool {
		_, err := parseTree(t.source[:end(i)], map[string]*parse.Tree{})
		return err != nil && lineError.ReplaceAllString(err.Error(), "") != "unexpected EOF"
	})
	if i == len(found) {
		return t.whole(clip(words(message)))
	}
	return t.at(found[i].start, words(message))
}

// unclosed finds what no {{end}} closes.
func (t *Template) unclosed(found []action) *Error {
	var open []action
	for _, a := range found {
		switch a.word {
		case "if", "with", "range":
			open = append(open, a)
		case "end":
			open = open[:max(0, len(open)-1)]
		}
	}
	if len(open) == 0 {
		return t.whole("an {{end}} is missing")
	}
	last := open[len(open)-1]
	return t.at(last.start, fmt.Sprintf("{{%s}} is not closed; its {{end}} is missing", last.word))
}

// words says some of text/template's messages plainer.
func words(message string) string {
	message, _, _ = strings.Cut(message, " in action started at ")
	switch {
	case strings.HasPrefix(message, "template: multiple definition"):
		return alone
	case strings.HasPrefix(message, "unclosed action"):
		return "the action is not closed; its }} is missing"
	case strings.HasPrefix(message, "unclosed comment"):
		return "the comment is not closed; its */}} is missing"
	case strings.HasPrefix(message, "comment ends before"):
		return "a comment has to be the whole action: {{/* like this */}}"
	case message == "unexpected {{end}}":
		return "this {{end}} closes nothing"
	case message == "unexpected {{else}}":
		return "this {{else}} belongs to nothing"
	case strings.HasPrefix(message, "missing value for"):
		return "the action is empty; it has to be a value such as .payload.name, or a function"
	case strings.HasPrefix(message, "unterminated quoted string"):
		return `a text is not closed; its " is missing`
	case strings.HasPrefix(message, "bad character U+007D"):
		return "the action is not closed; it ends with two braces, }}"
	case strings.HasPrefix(message, "bad character"):
		return message + `; a key with such characters is read with index, as in index .payload "first-name"`
	case strings.HasPrefix(message, "undefined variable"):
		return message + "; it has to be set before, as in {{$name := .payload.name}}, and not within another block"
	}
	return message
}

// misplaced says why html/template cannot tell how values are to be escaped.
func (t *Template) misplaced(err *htmltemplate.Error) *Error {
	var message string
	switch err.ErrorCode {
	case htmltemplate.ErrEndContext:
		message = "the HTML ends within a tag, an attribute or a script; close it"
	case htmltemplate.ErrBranchEnd:
		message = "the branches end at different places of the HTML; each has to leave tags and attributes as it found them"
	case htmltemplate.ErrRangeLoopReentry:
		message = "the range ends at another place of the HTML than it begins; it has to leave tags and attributes as it found them"
	case htmltemplate.ErrAmbigContext:
		message = "it cannot be seen which part of a URL this is; write the URL in one piece, with its ? outside of conditions"
	case htmltemplate.ErrBadHTML:
		message = "the HTML is wrong here; look for a quote, an = or a > that is missing"
	default:
		message = "no value can be written at this place of the HTML"
	}
	if err.Node != nil {
		return t.at(int(err.Node.Position()), message)
	}
	return &Error{Name: t.name, Line: err.Line, Message: message}
}
