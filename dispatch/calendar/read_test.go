package calendar

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReadWhatEncodeWrote(t *testing.T) {
	start := time.Date(2026, 12, 1, 15, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		event Event
	}{
		{"the least", Event{UID: "1@example.com", Method: Request, Organizer: Person{Address: "o@example.com"}, Attendees: []Person{{Address: "a@example.com"}}}},
		{"all", Event{
			UID: "1;2,3@example.com", Sequence: 7, Method: Cancel, Summary: `a; b, c\ d`, Location: "12 Main St, Springfield",
			Description: "one\ntwo\\n\n" + strings.Repeat("é", 200), URL: "https://example.com/?a=1;b=2,c",
			Organizer: Person{Name: `Ann "the boss": Lee^n`, Address: "o+x%y@example.com"},
			Attendees: []Person{{Name: "Bo; Cy, Di", Address: "b@example.com"}, {Address: "c@example.com"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.event.Stamp, tt.event.Start, tt.event.End = start.Add(-time.Hour), start, start.Add(time.Hour)
			text, err := tt.event.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(text)
			if err != nil || !reflect.DeepEqual(got, tt.event) {
				t.Errorf("%v\n got %+v\nwant %+v", err, got, tt.event)
			}
		})
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "no event"},
		{"no number", "BEGIN:VEVENT\r\nSEQUENCE:x\r\n", "SEQUENCE"},
		{"no time", "BEGIN:VEVENT\r\nDTSTART:tomorrow\r\n", "DTSTART"},
		{"no address", "BEGIN:VEVENT\r\nATTENDEE:ann\r\n", "ATTENDEE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Read(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
