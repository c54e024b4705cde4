package smtp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func testSender(t testing.TB) *Sender {
	t.Helper()
	s, err := New(Config{Host: "mail.example", From: "Myst Services <office@myst.example>"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func delivery(t testing.TB, e dispatch.Email) *dispatch.Delivery {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return &dispatch.Delivery{
		ID:      uuid.MustParse("0198c5a0-7d5e-7c3a-9f10-2b1c3d4e5f60"),
		Date:    time.Date(2025, 7, 1, 14, 0, 0, 0, time.FixedZone("CEST", 7200)),
		Message: dispatch.Message{Content: raw},
	}
}

func TestRender(t *testing.T) {
	d := delivery(t, dispatch.Email{
		To: []string{"Jane Doe <jane@customer.example>"}, Cc: []string{"cc@x.example"}, Bcc: []string{"hidden@x.example"},
		ReplyTo: "sales@myst.example", Subject: "Your estimate: 1 200 €",
		Text: "Hello\n.\nall in place", HTML: "<p>Hello</p>",
		Headers: map[string]string{"X-Campaign": "spring", "List-Unsubscribe": "<https://myst.example/u?t=1>"},
	})
	m, err := testSender(t).render(d)
	if err != nil {
		t.Fatal(err)
	}
	_, b := boundaries(d)
	want := strings.ReplaceAll(`Date: Tue, 01 Jul 2025 12:00:00 +0000
List-Unsubscribe: <https://myst.example/u?t=1>
MIME-Version: 1.0
Message-ID: <0198c5a0-7d5e-7c3a-9f10-2b1c3d4e5f60@myst.example>
Subject: =?UTF-8?q?Your_estimate:_1_200_=E2=82=AC?=
X-Campaign: spring
From: "Myst Services" <office@myst.example>
To: "Jane Doe" <jane@customer.example>
Cc: <cc@x.example>
Reply-To: <sales@myst.example>
Content-Type: multipart/alternative;
 boundary=`+b+`

--`+b+`
Content-Transfer-Encoding: quoted-printable
Content-Type: text/plain; charset=UTF-8

Hello
.
all in place
--`+b+`
Content-Transfer-Encoding: quoted-printable
Content-Type: text/html; charset=UTF-8

<p>Hello</p>
--`+b+`--
`, "\n", "\r\n")
	if got := string(m.data); got != want {
		t.Errorf("rendered\n%s\nwant\n%s", got, want)
	}
	if want := []string{"<jane@customer.example>", "<cc@x.example>", "<hidden@x.example>"}; m.from != "<office@myst.example>" || !slices.Equal(m.rcpts, want) {
		t.Errorf("envelope %s to %v", m.from, m.rcpts)
	}
}

// Every attempt sends the same bytes, by whichever sender.
func TestRenderIsRepeatable(t *testing.T) {
	e := dispatch.Email{
		To: []string{"a@x.example", "b@x.example"}, Subject: "ä", Text: "t", HTML: "<b>h</b>",
		Headers: map[string]string{"X-A": "1", "X-B": "2", "X-C": "3", "X-D": "4", "X-E": "5"},
	}
	first, err := testSender(t).render(delivery(t, e))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		d := delivery(t, e)
		d.Attempt = n
		again, err := testSender(t).render(d)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.data, again.data) {
			t.Fatalf("attempt %d differs:\n%s\n%s", n, first.data, again.data)
		}
	}
	other := delivery(t, e)
	other.ID = uuid.MustParse("0198c5a0-7d5e-7c3a-9f10-2b1c3d4e5f61")
	if m, err := testSender(t).render(other); err != nil || bytes.Equal(first.data, m.data) {
		t.Errorf("another delivery has the same bytes (%v)", err)
	}
}

func TestRenderRefuses(t *testing.T) {
	good := dispatch.Email{To: []string{"a@x.example"}, Subject: "s", Text: "t"}
	for _, tt := range []struct {
		name string
		with func(*dispatch.Email)
	}{
		{"no recipient", func(e *dispatch.Email) { e.To = nil }},
		{"copies only", func(e *dispatch.Email) { e.To, e.Cc = nil, []string{"a@x.example"} }},
		{"no body", func(e *dispatch.Email) { e.Text = "" }},
		{"no address", func(e *dispatch.Email) { e.To = []string{"jane"} }},
		{"two addresses in one", func(e *dispatch.Email) { e.To = []string{"a@x.example, b@x.example"} }},
		{"empty address", func(e *dispatch.Email) { e.To = []string{""} }},
		{"CRLF in the subject", func(e *dispatch.Email) { e.Subject = "s\r\nBcc: evil@x.example" }},
		{"LF in the subject", func(e *dispatch.Email) { e.Subject = "s\nBcc: evil@x.example" }},
		{"CR in the subject", func(e *dispatch.Email) { e.Subject = "s\rBcc: evil@x.example" }},
		{"CRLF in an encoded subject", func(e *dispatch.Email) { e.Subject = "=?utf-8?b?DQpCY2M6IGV2aWw=?=" }},
		{"NUL in the subject", func(e *dispatch.Email) { e.Subject = "s\x00" }},
		{"endless word in the subject", func(e *dispatch.Email) { e.Subject = strings.Repeat("x", 1200) }},
		{"CRLF in an address", func(e *dispatch.Email) { e.To = []string{"a@x.example>\r\nRCPT TO:<evil@x.example"} }},
		{"CRLF in a name", func(e *dispatch.Email) { e.To = []string{"\"a\r\nBcc: evil@x.example\" <a@x.example>"} }},
		{"CRLF in an encoded name", func(e *dispatch.Email) { e.To = []string{"=?utf-8?q?a=0D=0ABcc:_evil?= <a@x.example>"} }},
		{"CRLF in Reply-To", func(e *dispatch.Email) { e.ReplyTo = "a@x.example\r\nBcc: evil@x.example" }},
		{"CRLF in a header's value", func(e *dispatch.Email) { e.Headers = map[string]string{"X-A": "1\r\n\r\nbody"} }},
		{"CRLF in a header's name", func(e *dispatch.Email) { e.Headers = map[string]string{"X-A: 1\r\nBcc": "evil@x.example"} }},
		{"colon in a header's name", func(e *dispatch.Email) { e.Headers = map[string]string{"Bcc:": "x"} }},
		{"no name", func(e *dispatch.Email) { e.Headers = map[string]string{"": "x"} }},
		{"another From", func(e *dispatch.Email) { e.Headers = map[string]string{"fRoM": "boss@x.example"} }},
		{"a Bcc that shows", func(e *dispatch.Email) { e.Headers = map[string]string{"Bcc": "x@x.example"} }},
		{"another Message-ID", func(e *dispatch.Email) { e.Headers = map[string]string{"Message-Id": "<1@x>"} }},
		{"another Content-Type", func(e *dispatch.Email) { e.Headers = map[string]string{"Content-Type": "text/html"} }},
		{"Resent-To", func(e *dispatch.Email) { e.Headers = map[string]string{"Resent-To": "x@x.example"} }},
		{"a header twice", func(e *dispatch.Email) { e.Headers = map[string]string{"X-A": "1", "x-a": "2"} }},
		{"CRLF in a file's name", func(e *dispatch.Email) { e.Attachments = []dispatch.Attachment{{Name: "a\r\nBcc: evil@x.example"}} }},
		{"CRLF in a file's type", func(e *dispatch.Email) {
			e.Attachments = []dispatch.Attachment{{Name: "a", Type: "text/plain\r\nBcc: evil@x.example"}}
		}},
		{"a type of many parts", func(e *dispatch.Email) {
			e.Attachments = []dispatch.Attachment{{Name: "a", Type: "multipart/mixed; boundary=evil"}}
		}},
		{"CRLF in an invitation's method", func(e *dispatch.Email) { e.Invite = &dispatch.Invite{Method: "REQUEST\r\nBcc: evil@x.example"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := good
			tt.with(&e)
			m, err := testSender(t).render(delivery(t, e))
			if err == nil {
				t.Fatalf("rendered\n%s", m.data)
			}
			for _, private := range []string{"evil", "x.example", "jane"} {
				if strings.Contains(err.Error(), private) {
					t.Errorf("the error shows %q: %v", private, err)
				}
			}
		})
	}
}

// Bodies may have anything in them; what arrives is the same text in lines
// that any server passes on.
func TestBodies(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"bare CR", "a\rb", "a\r\nb"},
		{"bare LF", "a\nb", "a\r\nb"},
		{"CRLF", "a\r\nb", "a\r\nb"},
		{"mixed, LF CR", "a\n\rb", "a\r\n\r\nb"},
		{"a smuggled end", "a\n.\nMAIL FROM:<evil@x.example>\r.\r\n", "a\r\n.\r\nMAIL FROM:<evil@x.example>\r\n.\r\n"},
		{"dots", ".\n..\n.a", ".\r\n..\r\n.a"},
		{"bells", "a\x07b", "a\x07b"},
		{"long line", strings.Repeat("x", 5000), strings.Repeat("x", 5000)},
		{"four bytes", "😀 ü", "😀 ü"},
		{"trailing space", "a \nb\t", "a \r\nb\t"},
		{"boundary", "--outbox-\n--", "--outbox-\r\n--"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := testSender(t).render(delivery(t, dispatch.Email{
				To: []string{"a@x.example"}, Subject: "s", Text: tt.text, HTML: tt.text,
			}))
			if err != nil {
				t.Fatal(err)
			}
			if err := check(m.data, strings.Fields("From To Date Subject MIME-Version Message-ID Content-Type")); err != nil {
				t.Error(err)
			}
			for _, got := range bodies(t, m.data) {
				if got != tt.want {
					t.Errorf("arrives as %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// bodies returns the decoded parts of a message, or its one body.
func bodies(t testing.TB, data []byte) []string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(media, "multipart/") {
		text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil {
			t.Fatal(err)
		}
		return []string{string(text)}
	}
	var parts []string
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart() // decodes quoted-printable
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(text))
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		ok         bool
	}{
		{"right", "To: a\r\n b\r\n\r\nbody: x\r\n\r\n \r\n", true},
		{"unknown header", "To: a\r\nBcc: b\r\n\r\n", false},
		{"no header", "To: a\r\nbody\r\n\r\n", false},
		{"bare CR", "To: a\rBcc: b\r\n\r\n", false},
		{"bare LF", "To: a\r\n\r\na\nb", false},
		{"NUL", "To: a\r\n\r\na\x00", false},
		{"line of spaces", "To: a\r\n  \r\n b\r\n\r\n", false},
		{"longest line", "To: a\r\n\r\n" + strings.Repeat("x", 998), true},
		{"too long", "To: a\r\n\r\n" + strings.Repeat("x", 999), false},
	} {
		if err := check([]byte(tt.data), []string{"To"}); (err == nil) != tt.ok {
			t.Errorf("%s: check = %v", tt.name, err)
		}
	}
}

// FuzzRender reads back what was rendered: the headers that were asked for,
// no others, and one body.
func FuzzRender(f *testing.F) {
	f.Add("a@x.example", "Subject", "X-A", "value", "text", "html")
	f.Add("=?utf-8?q?a=0Ab?= <a@x.example>", "s\r\nBcc: e@x", "X-A\nBcc", "1\r2", "a\r.\r\n", "")
	f.Add("\"q\\\"\" <a@[127.0.0.1]>", strings.Repeat(" ", 200)+"x", "x_y", strings.Repeat("y ", 500), "\x00", "<p>")
	f.Add("ä@ü.example", "=?utf-8?b?DQo=?=", "To", " ", " ", "\t")
	s := testSender(f)
	f.Fuzz(func(t *testing.T, to, subject, name, value, text, html string) {
		d := delivery(t, dispatch.Email{
			To: []string{to}, Subject: subject, Text: text, HTML: html, Headers: map[string]string{name: value},
		})
		m, err := s.render(d)
		if err != nil {
			return
		}
		parsed, err := mail.ReadMessage(bytes.NewReader(m.data))
		if err != nil {
			t.Fatalf("%v in\n%s", err, m.data)
		}
		allowed := []string{"from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding", strings.ToLower(name)}
		for key, values := range parsed.Header {
			if !slices.Contains(allowed, strings.ToLower(key)) || len(values) != 1 {
				t.Fatalf("header %s: %q in\n%s", key, values, m.data)
			}
		}
		if addresses, err := parsed.Header.AddressList("To"); err != nil || len(addresses) != 1 || len(m.rcpts) != 1 {
			t.Fatalf("recipients %v, %v (%v)", addresses, m.rcpts, err)
		}
		if strings.ContainsAny(m.rcpts[0], "\r\n\x00") {
			t.Fatalf("recipient %q", m.rcpts[0])
		}
		if n := len(bodies(t, m.data)); n != 1 && (html == "" || n != 2) { // HTML brings a text of its own
			t.Fatalf("%d bodies in\n%s", n, m.data)
		}
	})
}

// jane is the name of a mailbox, and no part of a longer one.
var jane = regexp.MustCompile(`(?i)(^|[^0-9a-z])jane($|[^0-9a-z])`)

// TestAlone: which replies say nothing of other mail.
func TestAlone(t *testing.T) {
	t.Parallel()
	s, m := testSender(t), &message{}
	for _, tt := range []struct {
		at    stage
		code  int
		reply string
		want  bool
	}{
		{stageRcpt, 450, "4.2.0 jane: Recipient address rejected: Greylisted", true},
		{stageRcpt, 451, "4.7.1 Graylisting in action, please come back later", true},
		{stageRcpt, 452, "4.2.2 mailbox full", true},
		{stageRcpt, 450, "4.1.8 sender's domain cannot be found", true},
		{stageRcpt, 452, "4.5.3 too many recipients", true},
		{stageRcpt, 450, "mailbox unavailable", false}, // or everything is
		{stageRcpt, 451, "4.7.1 try again later", false},
		{stageMail, 451, "local error in processing", false},
		{stageDot, 451, "4.3.0 queue file write error", false},
		{stageDot, 451, "4.7.500 Server busy", false},
		{stageConnect, 450, "greylisted", false}, // before there is any mail
		{stageRcpt, 421, "4.2.1 closing", false},
		{stageRcpt, 550, "5.2.1 greylisted for good", false},
	} {
		if e := s.fail(t.Context(), m, failed(tt.at, reply(tt.code, tt.reply))); e.Alone != tt.want {
			t.Errorf("%s %d %s: alone %t, want %t", tt.at, tt.code, tt.reply, e.Alone, tt.want)
		}
	}
}

// FuzzFailure feeds server replies through the classification and the
// cleaning of their text.
func FuzzFailure(f *testing.F) {
	f.Add("550 5.1.1 <jane@customer.example>: no jane here\x1b[31m")
	f.Add("421 4.7.0 too many")
	f.Add("\xff\xfe 452-")
	f.Add("550 jane_jane_jane")
	s, m := testSender(f), &message{private: []string{"jane"}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, at := range []stage{stageConnect, stageMail, stageRcpt, stageData, stageBody, stageDot} {
			for _, code := range []int{0, 250, 354, 421, 450, 535, 550} {
				e := s.fail(t.Context(), m, failed(at, reply(code, text)))
				if e.Alone && (e.Status != 450 || e.Kind == dispatch.Rejected) {
					t.Fatalf("%s %d: about one mail: %v", at, code, e)
				}
				if e.Kind == "" || len(e.Err.Error()) > 2<<10 {
					t.Fatalf("%s %d: %v", at, code, e)
				}
				if strings.ContainsAny(e.Error(), "\x00\r\n\x1b") || jane.MatchString(e.Error()) {
					t.Fatalf("error %q", e)
				}
				if code >= 500 && at == stageDot && e.Kind == dispatch.Unknown || code == 0 && (e.Kind == dispatch.Unknown) != (at == stageDot) {
					t.Fatalf("%s %d: %v", at, code, e)
				}
			}
		}
	})
}

// reply is the error for a server's reply, or one without a reply for code 0.
func reply(code int, text string) error {
	if code == 0 {
		return errors.New(text)
	}
	return &textproto.Error{Code: code, Msg: text}
}

// FuzzAttachment reads back a file that went with a message: the name and the
// bytes are what they were, and nothing else has come of them.
func FuzzAttachment(f *testing.F) {
	f.Add("a.pdf", "", []byte("%PDF"))
	f.Add("ü \"q\"; x=1.csv", "text/csv; charset=\"a\\\"b\"; x*=utf-8''%0D%0A; name=b", []byte("\r\n.\r\n--outbox-"))
	f.Add("=?utf-8?q?=0D=0A?=", "multipart/mixed; boundary=x", []byte{0})
	f.Add("a\u202efdp.exe", "message/rfc822", []byte(nil))
	s := testSender(f)
	f.Fuzz(func(t *testing.T, name, mediaType string, content []byte) {
		if !utf8.ValidString(name) {
			return // JSON makes another one of it
		}
		d := delivery(t, dispatch.Email{
			To: []string{"a@x.example"}, Subject: "s", Text: "t", Attachments: []dispatch.Attachment{{Name: name, Type: mediaType, Content: content}},
		})
		m, err := s.render(d)
		if err != nil {
			return
		}
		parsed, err := mail.ReadMessage(bytes.NewReader(m.data))
		if err != nil {
			t.Fatalf("%v in\n%s", err, m.data)
		}
		outer, _ := boundaries(d)
		r := multipart.NewReader(parsed.Body, outer)
		if p, err := r.NextRawPart(); err != nil || len(p.Header) != 2 {
			t.Fatalf("the text: %v, %v in\n%s", p, err, m.data)
		}
		p, err := r.NextRawPart()
		if err != nil || len(p.Header) != 3 {
			t.Fatalf("the file: %v, %v in\n%s", p, err, m.data)
		}
		got, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%q arrives as %q, %v", content, got, err)
		}
		if kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition")); err != nil || kind != "attachment" || len(params) != 1 || params["filename"] != name {
			t.Fatalf("%q arrives as %v, %v", name, params, err)
		}
		kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil || params["name"] != name || strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") {
			t.Fatalf("%q arrives as %s %v, %v", mediaType, kind, params, err)
		}
		if _, err := r.NextRawPart(); err != io.EOF {
			t.Fatalf("a part too many, %v in\n%s", err, m.data)
		}
	})
}
