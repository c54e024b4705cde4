package dispatch

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxInviteBytes is how long the calendar of an Invite may be. What dispatch/calendar
// writes is a few kilobytes, and ten more for a hundred guests.
const MaxInviteBytes = 256 << 10

// validate reports what is wrong with v, in a sentence that names the key. It
// looks at what mail programs stumble over first: a method that differs from the
// one of the part, and lines that do not end as RFC 5545, 3.1 wants them.
func (v *Invite) validate() error {
	if v == nil {
		return nil
	}
	if v.Method != "REQUEST" && v.Method != "CANCEL" {
		return errors.New(`the key "invite" has another "method" than REQUEST or CANCEL`)
	}
	if len(v.Calendar) > MaxInviteBytes {
		return fmt.Errorf(`the key "invite" has a "calendar" of %d bytes; at most %d are accepted`, len(v.Calendar), MaxInviteBytes)
	}
	lines, ended := strings.CutSuffix(v.Calendar, "\r\n")
	methods := 0
	for line := range strings.SplitSeq(lines, "\r\n") {
		if !utf8.ValidString(line) {
			return errors.New(`the key "invite" has a "calendar" that is not valid UTF-8`)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			return errors.New(`the key "invite" has a "calendar" with another line end than CRLF, or another control character, in it`)
		}
		if name, _, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "METHOD") {
			methods++
			if line != "METHOD:"+v.Method {
				methods = 2
			}
		}
	}
	switch {
	case !ended || !strings.HasPrefix(lines, "BEGIN:VCALENDAR\r\n") || !strings.HasSuffix(lines, "\r\nEND:VCALENDAR"):
		return errors.New(`the key "invite" has a "calendar" that is not one VCALENDAR, from its BEGIN to the line end after its END`)
	case methods != 1:
		return errors.New(`the key "invite" has a "calendar" without one METHOD line that says the same as "method"`)
	}
	return nil
}
