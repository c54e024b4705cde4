package plaintext

import (
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestFromHTML(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, markup, want string }{
		{"nothing", "", ""},
		{"no markup", "Hello", "Hello"},
		{"paragraphs", "<p>One</p><p>Two</p>", "One\n\nTwo"},
		{"paragraphs without ends", "<p>One<p>Two", "One\n\nTwo"},
		{"headings", "<h1>Your  visit</h1>At ten.<h2>Where</h2>Here.", "Your visit\n\nAt ten.\n\nWhere\n\nHere."},
		{"divisions are lines", "<div>a</div><div>b<div>c</div></div>d", "a\nb\nc\nd"},
		{"the empty line of Gmail", "<div>a</div><div><br></div><div>b</div>", "a\n\nb"},
		{"line breaks", "a<br>b<br/><br />c<br><br><br><br>d", "a\nb\n\nc\n\nd"},
		{"a break at the end of a block", "<div>a<br></div><div>b</div>", "a\nb"},
		{"nothing but breaks", "<br><p><br></p>", ""},
		{"white space", "\r\n  a \t\n <b> b</b>&nbsp; c\u2003d <i>e</i>.\n", "a b c d e."},
		{"inline elements do not part words", "un<b>believ</b>able", "unbelievable"},
		{"entities", "&lt;b&gt; &amp;amp; &euro;&#8364;&#x1F600; &eacute &copy2 &unknown; &quot;", "<b> &amp; €€😀 é ©2 &unknown; \""},
		{"what is a tag only once decoded", "&lt;script&gt;x&lt;/script&gt;", "<script>x</script>"},
		{"script, style, comments", "a<script>if (1<2) '</p>'</script><style>p>a{}</style><!-- <p>x</p> --><!DOCTYPE html><?php x ?>b", "ab"},
		{"conditions of Outlook", "a<!--[if mso]><p>x</p><![endif]--><![if !mso]>b<![endif]>", "ab"},
		{"the head", "<html><head><title>T</title><meta charset=utf-8></head><body>b</body></html>", "b"},
		{"a script that does not end", "a<script>b", "a"},
		{"a comment that does not end", "a<!-- b", "a"},
		{"a tag that does not end", "a<p title='b", "a"},
		{"things that are not text", "a<svg><title>x</title><text>y</text></svg><template><p>z</template><select><option>1</select><textarea>t</textarea><noscript><p>n</p></noscript>b", "ab"},
		{"a drawing without an end tag", "a<svg/><svg><svg/>x</svg>b", "ab"},
		{"hidden", `a<div style="Display : NONE !important">x<div>y</div>z</div><span hidden>x</span>b`, "ab"},
		{"hidden and never closed", "a<p hidden>b<img style='display:none' alt=c>d", "a\n\nbcd"},
		{"an unordered list", "Bring<ul><li>towel<li>water</li></ul>Thanks", "Bring\n\n- towel\n- water\n\nThanks"},
		{"an ordered list", "<ol><li>a</li><li>b</li></ol><ol start=9><li>c<li value=20>d<li>e</ol>", "1. a\n2. b\n\n9. c\n20. d\n21. e"},
		{"a list in a list", "<ul><li>a<ol><li>b<br>c</li><li>d</li></ol></li><li>e<p>f</p></li></ul>", "- a\n  1. b\n     c\n  2. d\n- e\n\n  f"},
		{"items of nothing", "<ul><li></li><li> </li><li>a</li><li></ul>b", "- a\n\nb"},
		{"an item without a list", "<li>a<li>b", "- a\n- b"},
		{"ends without beginnings", "</ul></ol></blockquote></pre></a></td></p>a", "a"},
		{"a quote", "He said:<blockquote>a<br>b<ul><li>c</ul></blockquote>d", "He said:\n\n> a\n> b\n> - c\n\nd"},
		{"a quote whose list does not end", "<blockquote><ul><li>a</blockquote>b", "> - a\n\nb"},
		{"a link", `See <a href="https://x.example/a?b=1&amp;c=2">our <b>site</b></a>, please`, "See our site (https://x.example/a?b=1&c=2), please"},
		{"a link that says where it leads", `<a href="https://x.example/">https://x.example</a> <a href="HTTPS://www.x.example">x.example</a>`, "https://x.example x.example"},
		{"the same in a list", `<ul><li><a href="https://x.example">x.example</a></ul>`, "- x.example"},
		{"a link of nothing", `<a href="https://x.example/1"> </a><a href="https://x.example/2"><img src=a.png></a>`, "https://x.example/1 https://x.example/2"},
		{"a picture that is a link", `<a href="https://x.example"><img alt="Our site"></a>`, "Our site (https://x.example)"},
		{"a button", `<table><tr><td><a href="https://x.example"><p>Pay now</p></a></td></tr></table><p>Bye</p>`, "Pay now (https://x.example)\n\nBye"},
		{"an address and a number", `<a href="mailto:a@x.example?subject=x">a@x.example</a> <a href="mailto:a@x.example">Ann</a> <a href="tel:+15550100">call</a> <a href="tel:+15550100">+1 (555) 01-00</a>`, "a@x.example Ann (a@x.example) call (tel:+15550100) +1 (555) 01-00"},
		{"links to nowhere", `<a href="#top">a</a><a name=x>b</a><a href="javascript:alert(1)">c</a><a href="/x">d</a><a href="data:text/html,x">e</a><a href="https://">f</a>`, "abcdef"},
		{"an address with line ends and blanks", "<a href=' https://x.example/a\r\n\tb c '>d</a>", "d (https://x.example/ab%20c)"},
		{"a link in a link, and no end", `<a href="https://x.example/1">a<a href="https://x.example/2">b`, "a (https://x.example/1)b (https://x.example/2)"},
		{"the first of two attributes", `<a href="https://x.example/1" href="https://x.example/2">a</a>`, "a (https://x.example/1)"},
		{"a table", "<table><caption>Quote</caption><thead><tr><th>Item<th>Price</tr></thead><tbody><tr><td>Massage</td><td></td><td>90 €</td></tr></tbody></table>Bye", "Quote\nItem | Price\nMassage | 90 €\n\nBye"},
		{"a table for the layout", "<table><tr><td>&nbsp;</td><td><table><tr><td><p>a</p></td><td><p>b</p></td></tr></table></td></tr></table>", "a\n\nb"},
		{"a rule", "a<hr>b", "a\n\n----------\n\nb"},
		{"pictures", "a<img alt=' two words '>b<img src=x><img alt=''>c", "a two words bc"},
		{"preformatted", "a<pre>\n  b  c\n\n\n\td\n</pre>e  f", "a\n\n  b  c\n\n\td\n\ne f"},
		{"padding of the preview", "a&zwnj;&nbsp;&#847;&shy;&#8203;&zwnj;&#xfeff;b 👩&zwj;🚀", "a\u200c \u200cb 👩\u200d🚀"},
		{"control characters", "a\x07b\x00c&#1;d&#13;e\u2028f", "abcd e f"},
		{"half a character", "a\xffb", "a\uFFFDb"},
		{"definitions", "<dl><dt>a<dd>b<dt>c<dd>d</dl>", "a\nb\nc\nd"},
		{"capitals", "<P>a</P><SCRIPT>x</SCRIPT><A HREF='https://x.example'>b</A>", "a\n\nb (https://x.example)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := FromHTML(tt.markup); got != tt.want {
				t.Errorf("FromHTML(%q)\n = %q\nwant %q", tt.markup, got, tt.want)
			}
		})
	}
}

// TestNewsletter: a mail as shops send it, with all of the above in it.
func TestNewsletter(t *testing.T) {
	t.Parallel()
	markup, err := os.ReadFile("testdata/booking.html")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/booking.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := FromHTML(string(markup)); got != strings.TrimSuffix(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n") {
		t.Errorf("reads\n%s\nwant\n%s", got, want)
	}
}

// TestHostile: much of what breaks readers that recurse, that keep a tree, or
// that look back.
func TestHostile(t *testing.T) {
	t.Parallel()
	const size = 200 << 10
	for _, tt := range []struct{ name, unit string }{
		{"divisions in divisions", "<div>"},
		{"with something in each", "<div>x"},
		{"lists in lists", "<ul><li>x"},
		{"ordered lists in lists", "<ol start=999999999><li>x"},
		{"quotes in quotes", "<blockquote>x"},
		{"tables in tables", "<table><tr><td>x"},
		{"links in links", "<a href=https://x.example>"},
		{"bold in bold", "<b><i><p>x"},
		{"drawings in drawings", "<svg>"},
		{"hidden in hidden", "<div hidden>"},
		{"ends", "</div></ul></blockquote></a>"},
		{"titles that do not end", "<title></titl"},
		{"scripts that do not end", "<script><!--<script"},
		{"comments that do not end", "<!--"},
		{"attributes", "<p a='"},
		{"open tags", "<"},
		{"entities", "&"},
		{"long entities", "&CounterClockwiseContourIntegral;"},
		{"breaks", "<br>"},
		{"rules", "<blockquote><hr>"},
		{"blanks", " \u00a0"},
		{"preformatted", "<pre>\n x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			markup := strings.Repeat(tt.unit, size/len(tt.unit))
			wellFormed(t, markup, FromHTML(markup))
		})
	}
	deep := strings.Repeat("<div>", 1<<20)
	wellFormed(t, deep, FromHTML(deep))
	one := "<a href='https://x.example/" + strings.Repeat("a ", size/2) + "'>x</a><p" + strings.Repeat(" a=1", size/4) + ">y"
	wellFormed(t, one, FromHTML(one))
}

// wellFormed checks what holds for each text that is made of markup.
func wellFormed(t *testing.T, markup, got string) {
	t.Helper()
	switch {
	case !utf8.ValidString(got):
		t.Errorf("not UTF-8: %.200q", got)
	case len(got) > 8*len(markup)+100:
		t.Errorf("%d bytes became %d", len(markup), len(got))
	case strings.IndexFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) >= 0:
		t.Errorf("a control character in %.200q", got)
	case strings.Contains(got, "\n\n\n"):
		t.Errorf("two empty lines in %.200q", got)
	case strings.HasPrefix(got, "\n"), strings.HasSuffix(got, "\n"):
		t.Errorf("an empty line around %.200q", got)
	}
}

func FuzzFromHTML(f *testing.F) {
	f.Add("<p>One</p><ul><li>a<ol start=3><li>b</ol></ul><a href='https://x.example'>c</a><pre>\n d\n</pre>")
	f.Add("<blockquote><table><tr><td>a<td>b</blockquote></table><svg/><div hidden>c</div>d&nbsp;&#1;")
	f.Add("<script><!--<script></script>--></script><title>a</title><!-- b --><![CDATA[c]]>\xff\x00")
	f.Fuzz(func(t *testing.T, markup string) {
		got := FromHTML(markup)
		wellFormed(t, markup, got)
		if got != FromHTML(markup) {
			t.Error("two texts of the same markup")
		}
	})
}

func BenchmarkFromHTML(b *testing.B) {
	markup, err := os.ReadFile("testdata/booking.html")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(markup)))
	for b.Loop() {
		FromHTML(string(markup))
	}
}
