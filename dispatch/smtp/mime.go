package smtp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// The body of a message is written here and not by go-mail, which gives nested
// multiparts random boundaries, or all the same one.

// The headers of a part, as they are written.
const (
	contentType = "Content-Type"
	encoding    = "Content-Transfer-Encoding"
	disposition = "Content-Disposition"
)

// part is a piece of a message: a leaf, or what other parts make together.
type part struct {
	header map[string]string
	write  func(io.Writer) error // the encoded body of a leaf
	parts  []*part
	limit  string // the boundary between parts
}

// text is a leaf of characters in quoted-printable: pure ASCII in lines of at
// most 76, and each line end a CRLF, bare CR included.
func text(mediaType, s string) *part {
	return &part{
		header: map[string]string{contentType: mediaType + "; charset=UTF-8", encoding: "quoted-printable"},
		write: func(w io.Writer) error {
			qp := quotedprintable.NewWriter(w)
			if _, err := io.WriteString(qp, s); err != nil {
				return err
			}
			return qp.Close()
		},
	}
}

// binary is a leaf of bytes in base64, in lines of 76.
func binary(mediaType string, content []byte) *part {
	return &part{
		header: map[string]string{contentType: mediaType, encoding: "base64"},
		write:  func(w io.Writer) error { return writeBase64(w, content) },
	}
}

// file is a leaf that is to be kept under a name.
func file(mediaType, name string, content []byte) *part {
	p := binary(mediaType+";\r\n "+parameter("name", name), content)
	p.header[disposition] = "attachment;\r\n " + parameter("filename", name)
	return p
}

// together is the multipart/kind of parts, or the one of them that there is.
func together(kind, limit string, parts ...*part) *part {
	if len(parts) == 1 {
		return parts[0]
	}
	return &part{
		header: map[string]string{contentType: "multipart/" + kind + ";\r\n boundary=" + limit},
		parts:  parts,
		limit:  limit,
	}
}

// order is the order in which headers are written. Without one that is fixed
// two attempts would send different bytes.
var order = []string{encoding, contentType, disposition}

// writeTo writes p with its headers, as the end of a message's header and its
// body.
func (p *part) writeTo(w io.Writer) error {
	for _, name := range order {
		if value := p.header[name]; value != "" {
			if _, err := fmt.Fprintf(w, "%s: %s\r\n", name, value); err != nil {
				return err
			}
		}
	}
	if _, err := io.WriteString(w, "\r\n"); err != nil {
		return err
	}
	return p.writeBody(w)
}

// writeBody writes p without its headers.
func (p *part) writeBody(w io.Writer) error {
	if p.write != nil {
		return p.write(w)
	}
	m := multipart.NewWriter(w)
	if err := m.SetBoundary(p.limit); err != nil {
		return err
	}
	for _, inner := range p.parts {
		header := textproto.MIMEHeader{}
		for name, value := range inner.header {
			header.Set(name, value)
		}
		iw, err := m.CreatePart(header) // sorts them
		if err != nil {
			return err
		}
		if err := inner.writeBody(iw); err != nil {
			return err
		}
	}
	return m.Close()
}

// writeBase64 writes content in lines of 76.
func writeBase64(w io.Writer, content []byte) error {
	const size = 57 // bytes that make a line
	var line [base64Line + 2]byte
	for len(content) > 0 {
		n := min(size, len(content))
		end := base64.StdEncoding.EncodedLen(n)
		base64.StdEncoding.Encode(line[:], content[:n])
		copy(line[end:], "\r\n")
		if _, err := w.Write(line[:end+2]); err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

// base64Line is the longest line of base64 (RFC 2045, 6.8).
const base64Line = 76

// boundaries separate the parts of d's message and those of the part within it.
// They come from what they separate, so that nobody can write a text that
// contains them, and neither begins like the other.
func boundaries(d *dispatch.Delivery) (outer, inner string) {
	h := sha256.New()
	h.Write(d.ID[:])
	h.Write(d.Content)
	sum := hex.EncodeToString(h.Sum(nil))
	return "outbox-" + sum[32:], "outbox-" + sum[:32]
}

// parameter writes a name as the parameter of a header: in quotes, or by RFC
// 2231 where it has other characters than ASCII, or what some programs would
// decode within quotes. It stays in one line, which programs read that do not
// know how to put pieces together.
func parameter(key, name string) string {
	var b strings.Builder
	if isASCII(name) && !strings.Contains(name, "=?") {
		b.WriteString(key + `="`)
		for _, c := range []byte(name) {
			if c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		b.WriteByte('"')
		return b.String()
	}
	b.WriteString(key + "*=utf-8''")
	for _, c := range []byte(name) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || bytes.IndexByte(attributeChars, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// attributeChars need no "%" in RFC 2231, 7, beside letters and digits.
var attributeChars = []byte("-._~!#$&+^`{|}")
