package calendar

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ics "github.com/arran4/golang-ical"
)

// visit is an event with something in every field.
func visit() Event {
	return Event{
		UID:         "appointment-4711@myst.example",
		Sequence:    2,
		Method:      Request,
		Stamp:       time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC),
		Start:       time.Date(2026, 12, 1, 10, 0, 0, 0, time.FixedZone("EST", -5*3600)),
		End:         time.Date(2026, 12, 1, 11, 30, 0, 999, time.FixedZone("EST", -5*3600)),
		Summary:     "Estimate; kitchen, bath",
		Location:    `12 Long Lane, Springfield \ back door`,
		Description: "Bring:\r\n- plans\r- photos\n\nGrüße, das Büro 😀",
		URL:         "https://myst.example/a/4711?x=1,2;3",
		Organizer:   Person{`Myst: "Home" ^ Services`, "office@myst.example"},
		Attendees:   []Person{{"Jane Doe", "jane+home@customer.example"}, {"", "o'brien@x.example"}},
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	got, err := visit().Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`BEGIN:VCALENDAR
PRODID:-//Outbox Listener//Outbox Listener//EN
VERSION:2.0
CALSCALE:GREGORIAN
METHOD:REQUEST
BEGIN:VEVENT
UID:appointment-4711@myst.example
SEQUENCE:2
DTSTAMP:20261120T093000Z
DTSTART:20261201T150000Z
DTEND:20261201T163000Z
STATUS:CONFIRMED
SUMMARY:Estimate\; kitchen\, bath
LOCATION:12 Long Lane\, Springfield \\ back door
DESCRIPTION:Bring:\n- plans\n- photos\n\nGrüße\, das Büro 😀
URL:https://myst.example/a/4711?x=1,2;3
ORGANIZER;CN="Myst: ^'Home^' ^^ Services":mailto:office@myst.example
ATTENDEE;CN=Jane Doe;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:m
 ailto:jane+home@customer.example
ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:o'brie
 n@x.example
END:VEVENT
END:VCALENDAR
`, "\n", "\r\n")
	if got != want {
		t.Errorf("encoded\n%s\nwant\n%s", got, want)
	}
	sameEvent(t, visit(), got)
}

func TestEncodeCancel(t *testing.T) {
	t.Parallel()
	e := visit()
	e.Method = Cancel
	got, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"METHOD:CANCEL\r\n", "STATUS:CANCELLED\r\n", "UID:appointment-4711@myst.example\r\n", "SEQUENCE:2\r\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	sameEvent(t, e, got)
}

// TestEncodeLeast: what is not given has no line, but for the summary, which an
// invitation has to have (RFC 5546, 3.2.2).
func TestEncodeLeast(t *testing.T) {
	t.Parallel()
	e := visit()
	e.Method, e.Summary, e.Location, e.Description, e.URL, e.Organizer.Name = "", "", "", "", "", ""
	got, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"LOCATION", "DESCRIPTION", "URL", "CN=\"", "CN=;"} {
		if strings.Contains(got, name) {
			t.Errorf("%s in\n%s", name, got)
		}
	}
	if !strings.Contains(got, "\r\nSUMMARY:\r\n") || !strings.Contains(got, "\r\nMETHOD:REQUEST\r\n") {
		t.Errorf("encoded\n%s", got)
	}
	sameEvent(t, e, got)
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		with func(*Event)
		want string
	}{
		{"no UID", func(e *Event) { e.UID = "" }, "UID of an invitation is empty"},
		{"a long UID", func(e *Event) { e.UID = strings.Repeat("canary", 50) }, "at most 255"},
		{"a line break in the UID", func(e *Event) { e.UID = "canary\r\nX:1" }, "line break"},
		{"another method", func(e *Event) { e.Method = "PUBLISH\r\ncanary" }, "REQUEST or CANCEL"},
		{"a negative sequence", func(e *Event) { e.Sequence = -1 }, "sequence"},
		{"a sequence beyond 32 bits", func(e *Event) { e.Sequence = math.MaxInt32 + 1 }, "sequence"},
		{"an end before the start", func(e *Event) { e.End = e.Start.Add(-time.Hour) }, "later than its start"},
		{"an end at the start", func(e *Event) { e.End = e.Start.Add(time.Millisecond) }, "later than its start"},
		{"no end", func(e *Event) { e.End = time.Time{} }, "later than its start"},
		{"no start", func(e *Event) { e.Start = time.Time{} }, "the start of"},
		{"no stamp", func(e *Event) { e.Stamp = time.Time{} }, "the stamp of"},
		{"a far end", func(e *Event) { e.End = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "the end of"},
		{"no organizer", func(e *Event) { e.Organizer = Person{} }, "organizer"},
		{"no attendees", func(e *Event) { e.Attendees = nil }, "attendee"},
		{"an attendee without a domain", func(e *Event) { e.Attendees[1].Address = "canary" }, "attendee 2"},
		{"an address with a name", func(e *Event) { e.Attendees[0].Address = "Canary <canary@x.example>" }, "attendee 1"},
		{"a line break in an address", func(e *Event) { e.Attendees[0].Address = "a@x.example\r\ncanary: 1" }, "attendee 1"},
		{"a blank in an address", func(e *Event) { e.Attendees[0].Address = `"can ary"@x.example` }, "attendee 1"},
		{"an address beyond ASCII", func(e *Event) { e.Organizer.Address = "cänary@x.example" }, "organizer"},
		{"a name that is not UTF-8", func(e *Event) { e.Organizer.Name = "canary\xff" }, "UTF-8"},
		{"a summary that is not UTF-8", func(e *Event) { e.Summary = "canary\xff" }, "summary"},
		{"a relative URL", func(e *Event) { e.URL = "/canary" }, "absolute"},
		{"a line break in the URL", func(e *Event) { e.URL = "https://x.example/\r\ncanary" }, "absolute"},
		{"a URL beyond ASCII", func(e *Event) { e.URL = "https://x.example/cänary" }, "absolute"},
	} {
		e := visit()
		tt.with(&e)
		got, err := e.Encode()
		if err == nil || got != "" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		} else if strings.Contains(strings.ToLower(err.Error()), "canary") {
			t.Errorf("%s: the error repeats what was given: %v", tt.name, err)
		}
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, line string }{
		{"just fits", strings.Repeat("x", 75)},
		{"one more", strings.Repeat("x", 76)},
		{"the second just fits", strings.Repeat("x", 75+74)},
		{"three lines", strings.Repeat("x", 75+74+1)},
		{"two bytes across", strings.Repeat("x", 74) + "é"},
		{"four bytes across", strings.Repeat("x", 73) + strings.Repeat("😀", 100)},
		{"nothing but four bytes", strings.Repeat("😀", 1000)},
		{"blanks", strings.Repeat(" ", 300)},
	} {
		var w writer
		w.line(tt.line)
		got := w.String()
		if unfolded := strings.ReplaceAll(got, "\r\n ", ""); unfolded != tt.line+"\r\n" {
			t.Errorf("%s: unfolds to %q", tt.name, unfolded)
		}
		wellFolded(t, got)
		if want := (len(tt.line)-75+73)/74 + 1; strings.Count(got, "\r\n") != want && !strings.Contains(tt.line, "é") && !strings.Contains(tt.line, "😀") {
			t.Errorf("%s: %d lines, want %d", tt.name, strings.Count(got, "\r\n"), want)
		}
	}
}

// TestBackslashInParameter: it has no meaning there (RFC 5545, 3.2), whatever
// the parser that the other tests use makes of it.
func TestBackslashInParameter(t *testing.T) {
	t.Parallel()
	if got := parameter(`a\n;b`); got != `"a\n;b"` {
		t.Errorf("parameter = %s", got)
	}
}

// wellFolded checks that each line is at most 75 octets of whole characters.
func wellFolded(t *testing.T, encoded string) {
	t.Helper()
	if !strings.HasSuffix(encoded, "\r\n") {
		t.Errorf("no line end at the end of %q", encoded)
	}
	for line := range strings.SplitSeq(encoded, "\r\n") {
		if len(line) > 75 || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %q", line)
		}
	}
}

// sameEvent reads what was encoded and compares it with e.
func sameEvent(t *testing.T, e Event, encoded string) {
	t.Helper()
	wellFolded(t, encoded)
	cal, err := ics.ParseCalendar(strings.NewReader(encoded))
	if err != nil {
		t.Fatalf("%v in\n%s", err, encoded)
	}
	var names []string
	got := map[string]string{}
	for _, p := range cal.CalendarProperties {
		names = append(names, p.IANAToken)
		got[p.IANAToken] = p.Value
	}
	if len(cal.Components) != 1 || len(cal.Events()) != 1 {
		t.Fatalf("%d components, %d events in\n%s", len(cal.Components), len(cal.Events()), encoded)
	}
	var people []Person
	for _, p := range cal.Events()[0].Properties {
		names = append(names, p.IANAToken)
		got[p.IANAToken] = p.Value
		if p.IANAToken != "ORGANIZER" && p.IANAToken != "ATTENDEE" {
			if len(p.ICalParameters) > 0 {
				t.Errorf("%s has parameters %v", p.IANAToken, p.ICalParameters)
			}
			continue
		}
		params := p.ICalParameters
		people = append(people, Person{uncaret(strings.Join(params["CN"], "|")), unmail(t, p.Value)})
		delete(params, "CN")
		if p.IANAToken == "ATTENDEE" {
			for name, want := range map[string]string{"ROLE": "REQ-PARTICIPANT", "PARTSTAT": "NEEDS-ACTION", "RSVP": "TRUE"} {
				if !slices.Equal(params[name], []string{want}) {
					t.Errorf("%s=%q, want %s", name, params[name], want)
				}
				delete(params, name)
			}
		}
		if len(params) > 0 {
			t.Errorf("%s has parameters %v too", p.IANAToken, params)
		}
	}

	method, status := Request, "CONFIRMED"
	if e.Method == Cancel {
		method, status = Cancel, "CANCELLED"
	}
	want := map[string]string{
		"PRODID": productID, "VERSION": "2.0", "CALSCALE": "GREGORIAN", "METHOD": method,
		"UID": e.UID, "SEQUENCE": strconv.Itoa(e.Sequence), "STATUS": status,
		"DTSTAMP": utc(e.Stamp), "DTSTART": utc(e.Start), "DTEND": utc(e.End), "SUMMARY": clean(e.Summary),
	}
	wantNames := []string{"PRODID", "VERSION", "CALSCALE", "METHOD", "UID", "SEQUENCE", "DTSTAMP", "DTSTART", "DTEND", "STATUS", "SUMMARY"}
	for _, f := range [][2]string{{"LOCATION", e.Location}, {"DESCRIPTION", e.Description}, {"URL", e.URL}} {
		if f[1] != "" {
			wantNames = append(wantNames, f[0])
			want[f[0]] = clean(f[1])
		}
	}
	wantNames = append(wantNames, "ORGANIZER")
	for range e.Attendees {
		wantNames = append(wantNames, "ATTENDEE")
	}
	if !slices.Equal(names, wantNames) {
		t.Errorf("lines %v, want %v in\n%s", names, wantNames, encoded)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %q, want %q", name, got[name], value)
		}
	}
	wantPeople := append([]Person{e.Organizer}, e.Attendees...)
	for i := range wantPeople {
		wantPeople[i].Name = clean(wantPeople[i].Name)
	}
	if !slices.Equal(people, wantPeople) {
		t.Errorf("people %q, want %q", people, wantPeople)
	}
	for i, at := range []func() (time.Time, error){
		cal.Events()[0].GetStartAt, cal.Events()[0].GetEndAt, cal.Events()[0].GetDtStampTime,
	} {
		if read, err := at(); err != nil || !read.Equal([]time.Time{e.Start, e.End, e.Stamp}[i].Truncate(time.Second)) {
			t.Errorf("time %d reads as %v, %v", i, read, err)
		}
	}
}

// uncaret decodes RFC 6868.
func uncaret(s string) string {
	return strings.NewReplacer("^^", "^", "^'", `"`, "^n", "\n").Replace(s)
}

// unmail returns the address of a mailto URI.
func unmail(t *testing.T, uri string) string {
	t.Helper()
	encoded, ok := strings.CutPrefix(uri, "mailto:")
	if !ok {
		t.Errorf("the address %q is no mailto URI", uri)
	}
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		if encoded[i] != '%' {
			b.WriteByte(encoded[i])
			continue
		}
		c, err := strconv.ParseUint(encoded[i+1:i+3], 16, 8)
		if err != nil {
			t.Fatalf("%q: %v", uri, err)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String()
}

// FuzzEncode: whatever is in the fields, what comes out reads back as the same
// event, without a line more.
func FuzzEncode(f *testing.F) {
	f.Add("1@x.example", 0, false, int64(0), int64(3600), "s", "l", "d", "https://x.example", "O", "o@x.example", "A", "a@x.example")
	f.Add("1\r\nX:1", -1, true, int64(1<<40), int64(-5), "a\r\nATTENDEE:mailto:evil@x", "\\n\\;", "\x00\u2028\x85", "mailto:x", "^n\r\n", "\"a b\"@x.example", "a\";X=1:", "a%b?c@x.example")
	f.Add(strings.Repeat("é", 127), 1<<30, true, int64(1e10), int64(1), strings.Repeat("😀", 90), "\t;,:", "^\\", "urn:x", `a"b`, "o@[127.0.0.1]", ",", "{x}@y.example")
	f.Fuzz(func(t *testing.T, uid string, sequence int, cancel bool, start, seconds int64, summary, location, description, url, organizer, from, attendee, to string) {
		// The parser decodes backslashes in parameters, where they mean nothing.
		organizer, attendee = strings.ReplaceAll(organizer, `\`, "/"), strings.ReplaceAll(attendee, `\`, "/")
		e := Event{
			UID: uid, Sequence: sequence, Method: Request, Summary: summary, Location: location, Description: description, URL: url,
			Stamp: time.Unix(start, 0), Start: time.Unix(start, 0), End: time.Unix(start, 0).Add(time.Duration(seconds) * time.Second),
			Organizer: Person{organizer, from}, Attendees: []Person{{attendee, to}, {attendee, from}},
		}
		if cancel {
			e.Method = Cancel
		}
		encoded, err := e.Encode()
		if err != nil {
			if encoded != "" || len(err.Error()) > 300 {
				t.Fatalf("%q, %v", encoded, err)
			}
			return
		}
		sameEvent(t, e, encoded)
	})
}
