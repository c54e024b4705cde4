package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"regexp"
	"slices"
	"strings"
)

// What is checked here has mostly been checked by dispatch.Email.Validate. It
// is here again because a header too many costs more than a moment.

// maxLine is the longest line without its CRLF (RFC 5322 section 2.1.1).
const maxLine = 998

var (
	errControl = errors.New("a header has a line end or NUL in it")
	spaces     = regexp.MustCompile(` {2,}`)
)

// headerText returns value as it may stand in a header. Line ends and NUL are
// an error, also within encoded words: whoever wrote them wants a header of
// their own. Runs of spaces become one, which means the same in a header,
// since folding at a long run would leave a line of nothing but spaces.
func headerText(value string) (string, error) {
	decoded, err := new(mime.WordDecoder).DecodeHeader(value)
	if hasControl(value) || err == nil && hasControl(decoded) {
		return "", errControl
	}
	return strings.Trim(spaces.ReplaceAllString(value, " "), " \t"), nil
}

// parse reads one address from each text. A name may have come as encoded
// words, and is checked once they are decoded.
func parse(texts []string) ([]*mail.Address, error) {
	addresses := make([]*mail.Address, 0, len(texts))
	for _, text := range texts {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return nil, errors.New("an address is invalid")
		}
		if hasControl(a.Name) || hasControl(a.Address) {
			return nil, errControl
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

// check reads a rendered message again: every line ends in CRLF and is not
// too long, and no header is there that was not asked for.
func check(data []byte, headers []string) error {
	inHeader := true
	for line := range bytes.SplitSeq(data, []byte("\r\n")) {
		if len(line) > maxLine {
			return fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		if bytes.ContainsAny(line, "\r\n\x00") {
			return errors.New("a line has a bare line end or NUL in it")
		}
		if !inHeader {
			continue
		}
		switch blank := len(bytes.TrimLeft(line, " \t")) == 0; {
		case len(line) == 0:
			inHeader = false
		case blank:
			return errors.New("a header has a line of spaces in it")
		case line[0] == ' ', line[0] == '\t':
		default:
			name, _, ok := strings.Cut(string(line), ":")
			if !ok || !slices.Contains(headers, name) {
				return errors.New("a header was injected")
			}
		}
	}
	return nil
}

// hasControl reports whether s has a line end or NUL in it.
func hasControl(s string) bool { return strings.ContainsAny(s, "\r\n\x00") }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// nonEmpty is a list of s, or of nothing when s is empty.
func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
