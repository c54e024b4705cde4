package openai

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Rules are what the words of a field have to keep beside its own limits:
// where their links come from. The zero value does not look at links.
type Rules struct {
	links map[string]bool // by canonical, and without http:// and https:// too; nil: any
	hosts map[string]bool // those of the links, and those that stand alone
}

// RulesOf returns the rules of a: links are those that stand in its facts, or
// in a text that a field must contain.
func RulesOf(a Ask) *Rules {
	r := &Rules{links: map[string]bool{}, hosts: map[string]bool{}}
	for _, f := range a.Facts {
		r.allow(f.Value)
	}
	for _, f := range a.Fields {
		for _, text := range f.MustContain {
			r.allow(text)
		}
	}
	return r
}

func (r *Rules) allow(text string) {
	for _, l := range linksIn(text) {
		r.hosts[l.host] = true
		r.links[l.canonical] = true
		if l.scheme == "" {
			r.links["https://"+l.canonical] = true
			r.links["http://"+l.canonical] = true
		}
		if l.scheme == "http" || l.scheme == "https" {
			r.links[strings.TrimPrefix(l.canonical, l.scheme+"://")] = true
		}
	}
}

// Check returns text as it may be used, without the blanks around it, or why it
// may not be: the first of
//
//	empty
//	control character        also what is there to mislead the eye, such as
//	                         U+202E, and U+FFFD
//	line break               where there is to be one line
//	too long (412 characters, at most 320)
//	too long (3 segments, at most 2)
//	must_contain 1 is missing
//	must_not 2 is in it
//	foreign link             a URL that is not in the facts
func (r *Rules) Check(f Field, text string) Words {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if reason := r.miss(f, text); reason != "" {
		return Words{Fallback: reason}
	}
	return Words{Text: text}
}

func (r *Rules) miss(f Field, text string) string {
	switch {
	case text == "":
		return "empty"
	case !utf8.ValidString(text) || strings.IndexFunc(text, hidden) >= 0:
		return "control character"
	case f.SingleLine && strings.Contains(text, "\n"):
		return "line break"
	}
	if n := utf8.RuneCountInString(text); f.MaxChars > 0 && n > f.MaxChars {
		return fmt.Sprintf("too long (%d characters, at most %d)", n, f.MaxChars)
	}
	if f.MaxSegments > 0 {
		if _, _, n := dispatch.Segments(text); n > f.MaxSegments {
			return fmt.Sprintf("too long (%d segments, at most %d)", n, f.MaxSegments)
		}
	}
	for i, must := range f.MustContain {
		if !strings.Contains(text, must) {
			return fmt.Sprintf("must_contain %d is missing", i+1)
		}
	}
	words := folded(text)
	for i, not := range f.MustNot {
		if hasWord(words, folded(not)) {
			return fmt.Sprintf("must_not %d is in it", i+1)
		}
	}
	if r.foreign(text) {
		return "foreign link"
	}
	return ""
}

// hidden reports whether r has no place in words that a person reads: control
// characters, and of the invisible ones all but those that scripts and emojis
// need.
func hidden(r rune) bool {
	switch r {
	case '\n', '\t', '\u200c', '\u200d', '\u200e', '\u200f': // joiners, and marks of direction
		return false
	case utf8.RuneError:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// seen is text as its reader sees it: without invisible characters, and with
// the plain form of those that look like another.
func seen(text string) string {
	return norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r):
			return -1
		case r == '。' || r == '｡': // dots in a domain too (RFC 3490, 3.1)
			return '.'
		}
		return r
	}, text))
}

// folded is text for comparison: seen, in one case, with single blanks.
func folded(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, seen(text))), " ")
}

// hasWord reports whether word stands in text with no letter or digit right
// before or after it, where its own ends are letters or digits.
func hasWord(text, word string) bool {
	if word == "" {
		return false
	}
	first, _ := utf8.DecodeRuneInString(word)
	last, _ := utf8.DecodeLastRuneInString(word)
	for from := 0; ; {
		at := strings.Index(text[from:], word)
		if at < 0 {
			return false
		}
		at += from
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		after, size := utf8.DecodeRuneInString(text[at+len(word):])
		begins := at == 0 || !(wordy(first) && wordy(before))
		ends := size == 0 || !(wordy(last) && wordy(after))
		if begins && ends {
			return true
		}
		_, size = utf8.DecodeRuneInString(text[at:])
		from = at + size
	}
}

func wordy(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.M) }

// link is something in a text that a phone or a mail program makes clickable.
type link struct {
	canonical string // with scheme and host in lower case, and no slash at the end
	scheme    string // "" where it has none
	host      string // with its port
	alone     bool   // a domain without a scheme, a port and a path
}

// anyLink finds links, and more than that: whether a domain that stands alone
// is one is said by alone and commonTLD. The scheme's length is bounded, or
// else each domain of "a.bc+a.bc+…" would look for one up to the end.
var anyLink = regexp.MustCompile(`(?i)[a-z][a-z0-9+.\-]{0,30}://[^\s<>"]+` +
	`|(?:[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}\-]*[\p{L}\p{N}\p{M}])?\.)+(?:xn--[a-z0-9\-]+|\p{L}[\p{L}\p{M}]+)(?::[0-9]+)?(?:[/?#][^\s<>"]*)?` +
	`|(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?/[^\s<>"]*`)

// linkEnds is what follows a link in a sentence and does not belong to it.
const linkEnds = ".,;:!?)]}>'\"`*»”’…"

func linksIn(text string) []link {
	var links []link
	for _, s := range anyLink.FindAllString(seen(text), -1) {
		s = strings.TrimRight(s, linkEnds)
		l := link{}
		rest := s
		if scheme, after, ok := strings.Cut(s, "://"); ok {
			l.scheme, rest = strings.ToLower(scheme), after
		}
		host, tail := rest, ""
		if i := strings.IndexAny(rest, "/?#\\"); i >= 0 {
			host, tail = rest[:i], rest[i:]
		}
		l.host = strings.ToLower(host)
		l.canonical = strings.TrimSuffix(l.host+tail, "/")
		if l.scheme != "" {
			l.canonical = l.scheme + "://" + l.canonical
		}
		l.alone = l.scheme == "" && tail == "" && !strings.Contains(host, ":")
		links = append(links, l)
	}
	return links
}

// commonTLD has the ends of domains that are taken for one wherever they stand
// alone. "Thanks.See you" is not meant to be one.
var commonTLD = regexp.MustCompile(`\.(?:com|net|org|edu|gov|info|biz|io|co|app|dev|ai|ly|xyz|top|shop|site|online|club|link|click|live|store|tech|cc|tv|eu|uk|de|fr|nl|ca|au|ru|cn|jp|br|xn--[a-z0-9\-]+)$`)

// foreign reports whether text has a link that the facts do not have.
func (r *Rules) foreign(text string) bool {
	if r.links == nil {
		return false
	}
	for _, l := range linksIn(text) {
		site, www := strings.CutPrefix(l.host, "www.")
		switch {
		case r.links[l.canonical]:
		case l.alone && (r.hosts[l.host] || r.hosts[site]):
		case l.alone && !www && !commonTLD.MatchString(l.host):
		default:
			return true
		}
	}
	return false
}
