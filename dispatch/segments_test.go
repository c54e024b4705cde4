package dispatch

import (
	"strings"
	"testing"
)

// The limits are those of https://www.twilio.com/docs/glossary/what-sms-character-limit;
// the four cases that say so are those of the tests of Twilio's own calculator,
// https://github.com/TwilioDevEd/message-segment-calculator.
func TestSegments(t *testing.T) {
	digits := strings.Repeat("1234567890", 40)
	for _, tt := range []struct {
		name     string
		text     string
		encoding string
		units    int
		segments int
	}{
		{"nothing", "", GSM7, 0, 0},
		{"one character", "a", GSM7, 1, 1},
		{"all of one segment", digits[:160], GSM7, 160, 1},
		{"one more", digits[:161], GSM7, 161, 2},
		{"all of two segments", digits[:306], GSM7, 306, 2},
		{"all of two and one more", digits[:307], GSM7, 307, 3},
		{"calculator: an escaped character in one segment", "{" + digits[1:159], GSM7, 160, 1},
		{"calculator: an escaped character in two segments", "{" + digits[1:160], GSM7, 161, 2},
		{"calculator: an emoji in one segment", "😜" + digits[1:69], UCS2, 70, 1},
		{"calculator: an emoji in two segments", "😜" + digits[1:70], UCS2, 71, 2},
		{"a euro sign is two", "€", GSM7, 2, 1},
		{"an escaped character is not split", digits[:152] + "€" + digits[:152], GSM7, 306, 3},
		{"an emoji is not split", "Ж" + digits[:65] + "😜" + digits[:66], UCS2, 134, 3},
		{"the whole of the basic table", gsmBasic, GSM7, 127, 1},
		{"the whole of the extension", gsmExtension, GSM7, 20, 1},
		{"a typographic apostrophe", "it’s", UCS2, 4, 1},
		{"an accent that is not in the alphabet", "ê", UCS2, 1, 1},
		{"a tab is not in the alphabet", "\t", UCS2, 1, 1},
		{"all of two segments in UCS-2", strings.Repeat("Ж", 134), UCS2, 134, 2},
		{"and one more", strings.Repeat("Ж", 135), UCS2, 135, 3},
		{"what is not UTF-8", "\xff", UCS2, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			encoding, units, segments := Segments(tt.text)
			if encoding != tt.encoding || units != tt.units || segments != tt.segments {
				t.Errorf("%s, %d units, %d segments; want %s, %d, %d",
					encoding, units, segments, tt.encoding, tt.units, tt.segments)
			}
		})
	}
}
