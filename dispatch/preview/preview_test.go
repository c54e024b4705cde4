package preview

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

var update = flag.Bool("update", false, "write testdata anew")

// expected is what dispatch/golden has of one of its events.
func expected(t *testing.T, name string) (*Preview, []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../golden/testdata/shop/routes_test", name+".expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	var p Preview
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return &p, raw
}

// TestPrint holds what people see of every channel against testdata, and what
// programs see against itself.
func TestPrint(t *testing.T) {
	for _, name := range []string{"paid", "paid-answered", "canceled", "direct-html", "refused", "unknown"} {
		t.Run(name, func(t *testing.T) {
			p, raw := expected(t, name)
			if again, err := p.JSON(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%v: read and written again:\n%s", err, again)
			}
			var b bytes.Buffer
			if err := p.Print(&b, true); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != strings.ReplaceAll(string(want), "\r\n", "\n") {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestCopies(t *testing.T) {
	ai := func(f string) Copy { return Copy{Field: f, Source: "ai"} }
	fallback := func(f, why string) Copy { return Copy{f, "fallback", why} }
	for _, tt := range []struct {
		name, text string
		want       []Copy
	}{
		{"none", "", nil},
		{"one", "sms: ai", []Copy{ai("sms")}},
		{"several", "sms: ai, subject: ai, body: ai", []Copy{ai("sms"), ai("subject"), ai("body")}},
		{"a reason with commas and brackets", "sms: fallback (too long (412 characters, at most 320)), body: ai", []Copy{fallback("sms", "too long (412 characters, at most 320)"), ai("body")}},
		{"a reason with a colon", "a: fallback (fact x: there is no y, z), b: fallback (empty)", []Copy{fallback("a", "fact x: there is no y, z"), fallback("b", "empty")}},
		{"names that look alike", "ai: ai, aid: ai", []Copy{ai("ai"), ai("aid")}},
		{"something else", "words of a later version", []Copy{{Source: "words of a later version"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := copies(tt.text); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestContentOfOthers: what an application's own channel or calendar has is shown
// as it is.
func TestContentOfOthers(t *testing.T) {
	raw := json.RawMessage(`{"to":["a@example.com"],"subject":"s","text":"t","invite":{"method":"REQUEST","calendar":"BEGIN:VCALENDAR"},
		"attachments":[{"name":"a.bin","content":"AAE="}]}`)
	d := Options{}.delivery(dispatch.Event{}, &dispatch.Message{Channel: dispatch.ChannelEmail, Content: raw}, nil)
	if i := d.Email.Invite; i == nil || i.Method != "REQUEST" || len(i.Description) != 1 || i.Description[0] != "BEGIN:VCALENDAR" {
		t.Errorf("%+v", i)
	}
	if a := d.Email.Attachments; len(a) != 1 || a[0].Bytes != 2 || a[0].Text != nil {
		t.Errorf("%+v", a)
	}
	for _, ch := range []dispatch.Channel{"pager", dispatch.ChannelSMS} {
		d := Options{}.delivery(dispatch.Event{}, &dispatch.Message{Channel: ch, Content: json.RawMessage(`[1]`)}, nil)
		if d.SMS != nil || string(d.Content) != "[1]" {
			t.Errorf("%s: %+v", ch, d)
		}
	}
}
