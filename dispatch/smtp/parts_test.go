package smtp_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	ics "github.com/arran4/golang-ical"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/calendar"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// piece is a part of a message as a mail program reads it.
type piece struct {
	media       string
	params      map[string]string // of the media type
	disposition string
	filename    string
	body        string // decoded
	pieces      []piece
}

// read takes a message apart, and checks what any server and program may ask
// of it: ASCII in lines of at most 998, CRLF, a header without repeats.
func read(t *testing.T, raw string) (mail.Header, piece) {
	t.Helper()
	for line := range strings.SplitSeq(raw, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %.200q of %d bytes", line, len(line))
		}
		if strings.IndexFunc(line, func(r rune) bool { return r > '~' }) >= 0 {
			t.Errorf("line %.200q is not ASCII", line)
		}
	}
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	for name, values := range m.Header {
		if len(values) != 1 {
			t.Errorf("%s: %q", name, values)
		}
	}
	return m.Header, readPiece(t, m.Header.Get, m.Body)
}

func readPiece(t *testing.T, header func(string) string, body io.Reader) (p piece) {
	t.Helper()
	var err error
	if p.media, p.params, err = mime.ParseMediaType(header("Content-Type")); err != nil {
		t.Fatalf("Content-Type %q: %v", header("Content-Type"), err)
	}
	if d := header("Content-Disposition"); d != "" {
		var params map[string]string
		if p.disposition, params, err = mime.ParseMediaType(d); err != nil {
			t.Fatalf("Content-Disposition %q: %v", d, err)
		}
		p.filename = params["filename"]
		if p.filename != p.params["name"] {
			t.Errorf("the names %q and %q differ", p.filename, p.params["name"])
		}
	}
	if strings.HasPrefix(p.media, "multipart/") {
		for r := multipart.NewReader(body, p.params["boundary"]); ; {
			inner, err := r.NextRawPart()
			if err == io.EOF {
				return p
			}
			if err != nil {
				t.Fatal(err)
			}
			p.pieces = append(p.pieces, readPiece(t, inner.Header.Get, inner))
		}
	}
	switch header("Content-Transfer-Encoding") {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	default:
		t.Fatalf("the encoding %q", header("Content-Transfer-Encoding"))
	}
	decoded, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	p.body = string(decoded)
	return p
}

// shape is what p is made of, without what it says.
func (p piece) shape() string {
	s := strings.TrimPrefix(p.media, "multipart/")
	if p.disposition != "" {
		s += "!" + p.filename
	}
	if p.pieces == nil {
		return s
	}
	var inner []string
	for _, q := range p.pieces {
		inner = append(inner, q.shape())
	}
	return s + "(" + strings.Join(inner, " ") + ")"
}

// leaves are the pieces that are not made of others.
func (p piece) leaves() []piece {
	if p.pieces == nil {
		return []piece{p}
	}
	var all []piece
	for _, q := range p.pieces {
		all = append(all, q.leaves()...)
	}
	return all
}

// boundaries are those of p and of all that is in it.
func (p piece) boundaries() []string {
	if p.pieces == nil {
		return nil
	}
	all := []string{p.params["boundary"]}
	for _, q := range p.pieces {
		all = append(all, q.boundaries()...)
	}
	return all
}

// mailbox starts a mail server for the length of the test, and returns it with
// a way to send to it.
func mailbox(t *testing.T) (*standin.SMTP, func(*testing.T, *dispatch.Delivery) string) {
	t.Helper()
	server, err := standin.NewSMTP(standin.SMTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s := sender(t, server.Host(), server.Port(), nil)
	return server, func(t *testing.T, d *dispatch.Delivery) string {
		t.Helper()
		before := len(server.Received())
		if _, e := send(t, s, d); e != nil {
			t.Fatal(e)
		}
		got := server.Received()
		if len(got) != before+1 {
			t.Fatalf("%d messages arrived", len(got)-before)
		}
		return got[before].Body
	}
}

// invitation is one as routes make it, with letters of two and four bytes.
func invitation(t *testing.T, method string) *dispatch.Invite {
	t.Helper()
	start := time.Date(2026, 12, 4, 15, 0, 0, 0, time.UTC)
	text, err := calendar.Event{
		UID: "appointment-17@myst.example", Sequence: 1, Method: method, Stamp: start.AddDate(0, 0, -7), Start: start, End: start.Add(time.Hour),
		Summary: "Fenster putzen für Zoë 😀, with a title that is so long that its line has to be folded", Location: "12 Main Street",
		Organizer: calendar.Person{Name: "Myst Services", Address: "office@myst.example"},
		Attendees: []calendar.Person{{Name: "Zoë", Address: to}},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &dispatch.Invite{Method: method, Calendar: text}
}

// every byte that there is.
func every() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return bytes.Repeat(all, 3)
}

// TestShapes: every combination of text, HTML, files and an invitation is made
// as mail programs expect it, and says what was given.
func TestShapes(t *testing.T) {
	_, deliver := mailbox(t)
	const text, html, made = "Grüße\n.\nfrom Zoë\n", "<p>Grüße <b>from</b> Zoë</p>", "Grüße from Zoë"
	files := []dispatch.Attachment{{Name: "quote.pdf", Content: every()}, {Name: "Grüße 😀.csv", Content: []byte("a;ü\n")}}
	for _, tt := range []struct {
		name  string
		email dispatch.Email
		shape string
	}{
		{"text", dispatch.Email{Text: text}, "text/plain"},
		{"HTML", dispatch.Email{HTML: html}, "alternative(text/plain text/html)"},
		{"HTML and a blank text", dispatch.Email{Text: " \n", HTML: html}, "alternative(text/plain text/html)"},
		{"HTML without anything to read", dispatch.Email{HTML: "<img src='https://x.example/1.png'>"}, "text/html"},
		{"both", dispatch.Email{Text: text, HTML: html}, "alternative(text/plain text/html)"},
		{"text and files", dispatch.Email{Text: text, Attachments: files}, "mixed(text/plain application/pdf!quote.pdf text/csv!Grüße 😀.csv)"},
		{"HTML and files", dispatch.Email{HTML: html, Attachments: files}, "mixed(alternative(text/plain text/html) application/pdf!quote.pdf text/csv!Grüße 😀.csv)"},
		{"both and files", dispatch.Email{Text: text, HTML: html, Attachments: files[:1]}, "mixed(alternative(text/plain text/html) application/pdf!quote.pdf)"},
		{"text and an invitation", dispatch.Email{Text: text, Invite: invitation(t, "REQUEST")}, "mixed(alternative(text/plain text/calendar) application/ics!invite.ics)"},
		{"HTML and an invitation", dispatch.Email{HTML: html, Invite: invitation(t, "REQUEST")}, "mixed(alternative(text/plain text/html text/calendar) application/ics!invite.ics)"},
		{"both and an invitation", dispatch.Email{Text: text, HTML: html, Invite: invitation(t, "CANCEL")}, "mixed(alternative(text/plain text/html text/calendar) application/ics!invite.ics)"},
		{"all", dispatch.Email{Text: text, HTML: html, Invite: invitation(t, "REQUEST"), Attachments: files}, "mixed(alternative(text/plain text/html text/calendar) application/pdf!quote.pdf text/csv!Grüße 😀.csv application/ics!invite.ics)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.email
			e.To, e.Bcc, e.Subject = []string{"Zoë <" + to + ">"}, []string{"hidden@x.example"}, "Grüße"
			raw := deliver(t, sendertest.NewDelivery(dispatch.ChannelEmail, to, e))
			header, whole := read(t, raw)
			if got := whole.shape(); got != tt.shape {
				t.Errorf("is made of %s\nwant          %s", got, tt.shape)
			}
			if strings.Contains(raw, "hidden@") {
				t.Error("shows who gets it in secret")
			}
			want := []string{"Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
			if whole.pieces == nil {
				want = slices.Insert(want, 0, "Content-Transfer-Encoding")
			}
			if names := slices.Sorted(maps.Keys(header)); !slices.Equal(names, want) {
				t.Errorf("headers %v, want %v", names, want)
			}
			limits := whole.boundaries()
			for i, a := range limits {
				for j, b := range limits {
					if i != j && strings.HasPrefix(a, b) {
						t.Errorf("the boundary %s begins like %s", a, b)
					}
				}
			}
			says(t, whole.leaves(), tt.email, cmp.Or(strings.TrimSpace(tt.email.Text), made))
		})
	}
}

// says checks that leaves say what e does, with plain as its text.
func says(t *testing.T, leaves []piece, e dispatch.Email, plain string) {
	t.Helper()
	files := e.Attachments
	for _, p := range leaves {
		switch {
		case p.media == "text/plain" && p.disposition == "":
			if strings.TrimSpace(strings.ReplaceAll(p.body, "\r\n", "\n")) != plain || p.params["charset"] != "UTF-8" {
				t.Errorf("the text is %q %v, want %q", p.body, p.params, plain)
			}
		case p.media == "text/html":
			if strings.TrimSuffix(p.body, "\r\n") != e.HTML || // which ends the message where it is all of it
				p.params["charset"] != "UTF-8" {
				t.Errorf("the HTML is %q, %v", p.body, p.params)
			}
		case p.media == "text/calendar", p.media == "application/ics":
			if p.body != e.Invite.Calendar {
				t.Errorf("the calendar is %q, want %q", p.body, e.Invite.Calendar)
			}
			if p.media == "text/calendar" && (p.params["method"] != e.Invite.Method || p.params["charset"] != "UTF-8" || p.disposition != "") {
				t.Errorf("the part for calendars has %v, %q", p.params, p.disposition)
			}
			cal, err := ics.ParseCalendar(strings.NewReader(p.body))
			if err != nil || len(cal.Events()) != 1 {
				t.Errorf("the calendar has %v, %v", cal, err)
			} else if summary := cal.Events()[0].GetProperty(ics.ComponentPropertySummary); !strings.HasPrefix(summary.Value, "Fenster putzen für Zoë 😀, ") {
				t.Errorf("the calendar's event is %q", summary.Value)
			}
		default:
			if len(files) == 0 {
				t.Fatalf("a file %q too many", p.filename)
			}
			if p.filename != files[0].Name || p.body != string(files[0].Content) || p.disposition != "attachment" {
				t.Errorf("a %s %q of %q, want %q of %q", p.disposition, p.filename, p.body, files[0].Name, files[0].Content)
			}
			files = files[1:]
		}
	}
	if len(files) > 0 {
		t.Errorf("%d files did not arrive", len(files))
	}
}

// TestFileNames: a name arrives as it was, whatever is in it, and says nothing
// to the header it stands in.
func TestFileNames(t *testing.T) {
	_, deliver := mailbox(t)
	for _, name := range []string{
		"a", "invoice 17.pdf", "Rechnung für Zoë.pdf", "請求書.pdf", "😀", `say "hi"; x=y.txt`, "a%20b.txt", "it's*.txt",
		"=?utf-8?q?=2E=2E=2Fevil=0D=0A?=", "a; filename=b.exe", " .hidden ", "100%.txt", "a&b,c;d:e<f>g@h?i=j.txt",
		strings.Repeat("x", 255), strings.Repeat("é", 127), strings.Repeat("😀", 63), strings.Repeat("x y ", 63),
	} {
		t.Run(name, func(t *testing.T) {
			_, whole := read(t, deliver(t, sendertest.NewDelivery(dispatch.ChannelEmail, to, dispatch.Email{
				To: []string{to}, Subject: "s", Text: "t", Attachments: []dispatch.Attachment{{Name: name, Type: "text/csv; header=present; name=b", Content: []byte("1")}},
			})))
			if len(whole.pieces) != 2 {
				t.Fatalf("is made of %s", whole.shape())
			}
			if p := whole.pieces[1]; p.filename != name || p.body != "1" || p.media != "text/csv" || len(p.params) != 2 || p.params["header"] != "present" {
				t.Errorf("arrives as %q, %s %v", p.filename, p.media, p.params)
			}
		})
	}
}

func TestMediaTypes(t *testing.T) {
	_, deliver := mailbox(t)
	for _, tt := range []struct{ name, given, content, want string }{
		{"a.pdf", "", "x", "application/pdf"},
		{"A.PDF", "", "x", "application/pdf"},
		{"a.pdf", "application/x-mine", "x", "application/x-mine"},
		{"a.tar.gz", "", "x", "application/gzip"},
		{"a.xyzzy", "", "x", "application/octet-stream"},
		{"Makefile", "", "x", "application/octet-stream"},
		{"a.eml", "", "x", "application/octet-stream"},
		{"a.csv", "", "ü", "text/csv; charset=UTF-8"},
		{"a.csv", "", "\xfc", "text/csv"},
		{"a.csv", "Text/CSV; Charset=latin1", "\xfc", "text/csv; charset=latin1"},
		{"a.csv", `text/csv; x="a b\"c"`, "x", `text/csv; x="a b\"c"`},
		{"a.csv", "text/csv; x*=utf-8''a%0D%0ABcc%3A%20evil", "x", "text/csv; x*=utf-8''a%0D%0ABcc%3A%20evil"},
		{"empty.txt", "", "", "text/plain; charset=UTF-8"},
	} {
		t.Run(tt.name+" "+tt.given, func(t *testing.T) {
			_, whole := read(t, deliver(t, sendertest.NewDelivery(dispatch.ChannelEmail, to, dispatch.Email{
				To: []string{to}, Subject: "s", Text: "t", Attachments: []dispatch.Attachment{{Name: tt.name, Type: tt.given, Content: []byte(tt.content)}},
			})))
			p := whole.pieces[1]
			if p.body != tt.content {
				t.Errorf("the content is %q", p.body)
			}
			delete(p.params, "name")
			want, params, err := mime.ParseMediaType(tt.want)
			if err != nil || p.media != want || !maps.Equal(p.params, params) {
				t.Errorf("type %s %v, want %s", p.media, p.params, tt.want)
			}
		})
	}
}

// TestSameBytesOnEachAttempt: an answer was lost, so another listener sends it
// again, from what stands in the ledger. The server gets the same bytes.
func TestSameBytesOnEachAttempt(t *testing.T) {
	server, _ := mailbox(t)
	for _, tt := range []struct {
		name  string
		email dispatch.Email
	}{
		{"text", dispatch.Email{Text: "t"}},
		{"HTML", dispatch.Email{HTML: "<ul><li>a<li>b</ul>"}},
		{"all", dispatch.Email{
			HTML: "<p>ü</p>", Invite: invitation(t, "REQUEST"), Headers: map[string]string{"X-A": "1", "X-B": "2", "X-C": "3"},
			Attachments: []dispatch.Attachment{{Name: "ü.png", Type: "image/png; a=1; b=2; c=3", Content: every()}, {Name: "b.unknown"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.email.To, tt.email.Subject = []string{to}, "s"
			d := sendertest.NewDelivery(dispatch.ChannelEmail, to, tt.email)
			before := len(server.Received())

			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			server.OnReceive(func(standin.Received) {
				cancel()
				<-over // no answer before the sender has given up
			})
			_, err := sender(t, server.Host(), server.Port(), nil).Send(ctx, d)
			close(over)
			if e := dispatch.AsError(dispatch.ChannelEmail, err); err == nil || e.Kind != dispatch.Unknown {
				t.Fatalf("the first attempt: %v", err)
			}

			server.OnReceive(nil)
			again := *d
			again.Attempt, again.Content = 2, slices.Clone(d.Content)
			if _, e := send(t, sender(t, server.Host(), server.Port(), func(c *smtp.Config) { c.LocalName = "another.example" }), &again); e != nil {
				t.Fatal(e)
			}
			got := server.Received()[before:]
			if len(got) != 2 || got[0].Body != got[1].Body || got[0].ID != got[1].ID || got[0].ID == "" {
				t.Errorf("%d messages arrived:\n%s", len(got), fmt.Sprint(got))
			}
			other := *d
			other.ID = sendertest.NewDelivery(dispatch.ChannelEmail, to, tt.email).ID
			if _, e := send(t, sender(t, server.Host(), server.Port(), nil), &other); e != nil {
				t.Fatal(e)
			}
			_, first := read(t, got[0].Body)
			_, last := read(t, server.Received()[before+2].Body)
			for i, limit := range first.boundaries() {
				if limit == last.boundaries()[i] {
					t.Errorf("two deliveries have the boundary %s", limit)
				}
			}
		})
	}
}

// TestManyFiles: as many as there may be arrive whole and in their order.
func TestManyFiles(t *testing.T) {
	_, deliver := mailbox(t)
	var files []dispatch.Attachment
	for i := range dispatch.MaxAttachments {
		files = append(files, dispatch.Attachment{Name: fmt.Sprint(i, ".bin"), Content: bytes.Repeat([]byte{0xff, byte(i), '\n'}, 10_000+i)})
	}
	e := dispatch.Email{To: []string{to}, Subject: "s", Text: "t", Attachments: files}
	_, whole := read(t, deliver(t, sendertest.NewDelivery(dispatch.ChannelEmail, to, e)))
	says(t, whole.leaves(), e, "t")
}
