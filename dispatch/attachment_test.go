package dispatch

import (
	"bytes"
	"strings"
	"testing"
)

func TestAttachmentsValidate(t *testing.T) {
	t.Parallel()
	named := func(name string) []Attachment { return []Attachment{{Name: name, Content: []byte("x")}} }
	typed := func(typ string) []Attachment { return []Attachment{{Name: "a", Type: typ}} }
	half := bytes.Repeat([]byte{1}, MaxAttachmentBytes/2)
	for _, tt := range []struct {
		name  string
		files []Attachment
		want  string // a part of the sentence; "" means valid
	}{
		{"none", nil, ""},
		{"a name", named("invoice.pdf"), ""},
		{"an empty file", []Attachment{{Name: "empty"}}, ""},
		{"a name of other letters", named("Rechnung für Zoë (請求書) 😀.pdf"), ""},
		{"a name of Hebrew with a mark", named("חשבון\u200f 17.pdf"), ""},
		{"dots", named("..a"), ""},
		{"the longest name", named(strings.Repeat("x", 255)), ""},
		{"a longer name", named(strings.Repeat("x", 256)), `attachment 1 of the key "attachments" has a "name" of 256 bytes; at most 255`},
		{"no name", named(""), `has an empty "name"`},
		{"a blank name", named(" "), `has an empty "name"`},
		{"a directory", named("a/b"), "path"},
		{"a directory of Windows", named(`..\b`), "path"},
		{"here", named("."), "path"},
		{"above", named(".."), "path"},
		{"a line break", named("a\r\nBcc: b@example.com"), "line break"},
		{"a NUL", named("a\x00"), "control character"},
		{"DEL", named("a\x7f"), "control character"},
		{"a Unicode line break", named("a\u2028b"), "line break"},
		{"half a character", named("a\xff"), "control character"},
		{"an ending turned round", named("invoice\u202efdp.exe"), "direction"},
		{"an isolate", named("a\u2066b"), "direction"},
		{"the second", append(named("a"), named("b/c")...), `attachment 2 of the key "attachments" has a path`},
		{"a type", typed("application/pdf"), ""},
		{"a type with parameters", typed(`text/csv; charset="utf-8"; header=present`), ""},
		{"a type that is a word", typed("pdf"), `"type"`},
		{"a type without its half", typed("image/"), `"type"`},
		{"a type beyond ASCII", typed("text/plain; x=\"é\""), `"type"`},
		{"a line break in a type", typed("text/plain\r\nX: y"), `"type"`},
		{"a line break in a parameter", typed("text/plain; x=\"\r\ny\""), `"type"`},
		{"a long type", typed("text/plain; x=" + strings.Repeat("y", 200)), `"type"`},
		{"parts", typed("Multipart/Mixed; boundary=x"), `"type"`},
		{"a message", typed("message/rfc822"), `"type"`},
		{"as many as there may be", slicesOf(20, Attachment{Name: "a"}), ""},
		{"one more", slicesOf(21, Attachment{Name: "a"}), `the key "attachments" has 21 files; at most 20`},
		{"as much as there may be", slicesOf(2, Attachment{Name: "a", Content: half}), ""},
		{"a byte more", append(slicesOf(2, Attachment{Name: "a", Content: half}), named("b")...), `files of 10485761 bytes together; at most 10485760`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Email{To: []string{"ann@example.com"}, Subject: "x", Text: "x", Attachments: tt.files}.Validate()
			wantRefusal(t, err, tt.want)
			if err != nil && (strings.Contains(err.Error(), "Bcc") || strings.Contains(err.Error(), "fdp")) {
				t.Errorf("the error repeats what was given: %v", err)
			}
		})
	}
}

func slicesOf(n int, a Attachment) []Attachment {
	all := make([]Attachment, n)
	for i := range all {
		all[i] = a
	}
	return all
}

func TestInviteValidate(t *testing.T) {
	t.Parallel()
	const good = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:ü\r\n METHOD:x\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, tt := range []struct{ name, method, calendar, want string }{
		{"right", "REQUEST", good, ""},
		{"taken back", "CANCEL", with("METHOD:REQUEST", "METHOD:CANCEL"), ""},
		{"as long as it may be", "REQUEST", with("ü", strings.Repeat("x", MaxInviteBytes-len(good)+2)), ""},
		{"longer", "REQUEST", with("ü", strings.Repeat("x", MaxInviteBytes-len(good)+3)), "262145 bytes; at most 262144"},
		{"no method", "", good, `"method"`},
		{"another method", "PUBLISH", with("REQUEST", "PUBLISH"), "REQUEST or CANCEL"},
		{"a method in small letters", "request", good, "REQUEST or CANCEL"},
		{"a header in the method", "REQUEST\r\nBcc: x", good, "REQUEST or CANCEL"},
		{"two minds", "CANCEL", good, "METHOD"},
		{"no METHOD", "REQUEST", with("METHOD:REQUEST\r\n", ""), "METHOD"},
		{"METHOD twice", "REQUEST", with("METHOD:REQUEST", "METHOD:REQUEST\r\nmethod:CANCEL"), "METHOD"},
		{"nothing", "REQUEST", "", "VCALENDAR"},
		{"something else", "REQUEST", "METHOD:REQUEST\r\n", "VCALENDAR"},
		{"something before it", "REQUEST", "X:y\r\n" + good, "VCALENDAR"},
		{"something behind it", "REQUEST", good + "X:y\r\n", "VCALENDAR"},
		{"half of it", "REQUEST", with("END:VCALENDAR\r\n", ""), "VCALENDAR"},
		{"no line end at its end", "REQUEST", strings.TrimSuffix(good, "\r\n"), "VCALENDAR"},
		{"LF", "REQUEST", strings.ReplaceAll(good, "\r\n", "\n"), "CRLF"},
		{"a CR", "REQUEST", with("ü", "a\rb"), "CRLF"},
		{"a NUL", "REQUEST", with("ü", "\x00"), "control character"},
		{"half a character", "REQUEST", with("ü", "\xff"), "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := Email{To: []string{"ann@example.com"}, Subject: "x", Text: "x", Invite: &Invite{Method: tt.method, Calendar: tt.calendar}}
			wantRefusal(t, e.Validate(), tt.want)
		})
	}
}
