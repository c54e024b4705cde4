package plaintext

import "golang.org/x/net/html/atom"

// How many line ends an element begins and ends with.
const (
	ownLine   = 1
	paragraph = 2
)

// breaks says it for the elements that begin and end a line; the others stand
// within one.
var breaks = map[atom.Atom]int{
	atom.P: paragraph, atom.H1: paragraph, atom.H2: paragraph, atom.H3: paragraph, atom.H4: paragraph,
	atom.H5: paragraph, atom.H6: paragraph, atom.Blockquote: paragraph, atom.Pre: paragraph,
	atom.Hr: paragraph, atom.Table: paragraph, atom.Dl: paragraph, atom.Figure: paragraph,

	atom.Ul: ownLine, atom.Ol: ownLine, atom.Menu: ownLine, atom.Dir: ownLine, // an inner list stands close to its item
	atom.Li: ownLine, atom.Dt: ownLine, atom.Dd: ownLine,
	atom.Tr: ownLine, atom.Caption: ownLine, atom.Thead: ownLine, atom.Tbody: ownLine, atom.Tfoot: ownLine,
	atom.Div: ownLine, atom.Center: ownLine, atom.Section: ownLine, atom.Article: ownLine, atom.Header: ownLine,
	atom.Footer: ownLine, atom.Main: ownLine, atom.Nav: ownLine, atom.Aside: ownLine, atom.Address: ownLine,
	atom.Figcaption: ownLine, atom.Form: ownLine, atom.Fieldset: ownLine, atom.Legend: ownLine,
	atom.Details: ownLine, atom.Summary: ownLine, atom.Body: ownLine, atom.Html: ownLine, atom.Head: ownLine,
}

// unseen are the elements that nobody reads. The tokenizer takes what is in a
// noscript for text, tags and all.
var unseen = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Title: true, atom.Template: true, atom.Noscript: true,
	atom.Iframe: true, atom.Noembed: true, atom.Noframes: true, atom.Object: true, atom.Svg: true, atom.Math: true,
	atom.Audio: true, atom.Video: true, atom.Canvas: true, atom.Select: true, atom.Textarea: true,
}

// endless are the elements that may or must lack an end tag. Hidden, they
// would take all that follows with them.
var endless = map[atom.Atom]bool{
	atom.Area: true, atom.Base: true, atom.Br: true, atom.Col: true, atom.Embed: true, atom.Hr: true, atom.Img: true,
	atom.Input: true, atom.Link: true, atom.Meta: true, atom.Param: true, atom.Source: true, atom.Track: true, atom.Wbr: true,
	atom.P: true, atom.Li: true, atom.Dt: true, atom.Dd: true, atom.Td: true, atom.Th: true, atom.Tr: true,
	atom.Thead: true, atom.Tbody: true, atom.Tfoot: true, atom.Colgroup: true, atom.Caption: true,
	atom.Option: true, atom.Optgroup: true, atom.Rp: true, atom.Rt: true, atom.Html: true, atom.Head: true, atom.Body: true,
}
