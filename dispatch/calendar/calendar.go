// Package calendar writes the invitations that go with e-mails: an iCalendar
// object (RFC 5545) with one event, as iTIP (RFC 5546) sends it around.
package calendar

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The values of Event.Method.
const (
	Request = "REQUEST" // invites, and updates what was sent under the same UID
	Cancel  = "CANCEL"  // takes it back
)

// Event is something at a time that people are invited to. Calendars take what
// comes under one UID for one event, and of two the one with the higher
// Sequence.
type Event struct {
	UID         string    // the same for all that is sent about the event, unique in the world
	Sequence    int       // 0 at first, higher with each change
	Method      string    // Request or Cancel; "" means Request
	Stamp       time.Time // when this was written; not the time of an attempt, so that each sends the same
	Start, End  time.Time // whole seconds count; End is later than Start
	Summary     string    // the title
	Location    string    // "" means none, as in the following
	Description string    // lines end in LF or CRLF
	URL         string    // absolute
	Organizer   Person
	Attendees   []Person // at least one
}

// Person is somebody with an e-mail address.
type Person struct {
	Name    string // "" means that it is not known
	Address string // without a name and brackets: ann@example.com
}

// productID says which program wrote it, as PRODID has to.
const productID = "-//Outbox Listener//Outbox Listener//EN"

// Encode returns e as a VCALENDAR: in UTC, lines folded at 75 octets, CRLF at
// the end of each. Control characters that a calendar cannot have are left out.
//
// Its errors say what has to be mended, and have nothing of the content in them.
func (e Event) Encode() (string, error) {
	e.Method = cmp.Or(e.Method, Request)
	if err := e.validate(); err != nil {
		return "", err
	}
	status := "CONFIRMED"
	if e.Method == Cancel {
		status = "CANCELLED"
	}
	var w writer
	w.line("BEGIN:VCALENDAR")
	w.line("PRODID:" + productID)
	w.line("VERSION:2.0")
	w.line("CALSCALE:GREGORIAN")
	w.line("METHOD:" + e.Method)
	w.line("BEGIN:VEVENT")
	w.line("UID:" + text(e.UID))
	w.line("SEQUENCE:" + strconv.Itoa(e.Sequence))
	w.line("DTSTAMP:" + utc(e.Stamp))
	w.line("DTSTART:" + utc(e.Start))
	w.line("DTEND:" + utc(e.End))
	w.line("STATUS:" + status)
	w.line("SUMMARY:" + text(e.Summary))
	if e.Location != "" {
		w.line("LOCATION:" + text(e.Location))
	}
	if e.Description != "" {
		w.line("DESCRIPTION:" + text(e.Description))
	}
	if e.URL != "" {
		w.line("URL:" + e.URL)
	}
	w.line("ORGANIZER" + e.Organizer.named() + ":" + e.Organizer.mailto())
	for _, p := range e.Attendees {
		w.line("ATTENDEE" + p.named() + ";ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:" + p.mailto())
	}
	w.line("END:VEVENT")
	w.line("END:VCALENDAR")
	return w.String(), nil
}

func (e Event) validate() error {
	switch {
	case e.Method != Request && e.Method != Cancel:
		return errors.New("the method of an invitation has to be REQUEST or CANCEL")
	case e.UID == "":
		return errors.New("the UID of an invitation is empty")
	case len(e.UID) > 255: // RFC 7986, 5.3
		return fmt.Errorf("the UID of an invitation is %d bytes long; at most 255 are accepted", len(e.UID))
	case strings.ContainsFunc(e.UID, unicode.IsControl):
		return errors.New("the UID of an invitation has a line break or another control character in it")
	case e.Sequence < 0 || e.Sequence > math.MaxInt32: // RFC 5545, 3.3.8
		return fmt.Errorf("the sequence of an invitation is %d; it has to be between 0 and %d", e.Sequence, math.MaxInt32)
	case !e.End.Truncate(time.Second).After(e.Start.Truncate(time.Second)): // RFC 5545, 3.8.2.2
		return errors.New("the end of an invitation has to be later than its start")
	}
	for _, f := range []struct {
		name string
		time time.Time
	}{{"stamp", e.Stamp}, {"start", e.Start}, {"end", e.End}} {
		if year := f.time.UTC().Year(); f.time.IsZero() || year < 1 || year > 9999 {
			return fmt.Errorf("the %s of an invitation is missing or not between the years 1 and 9999", f.name)
		}
	}
	for _, f := range []struct{ name, text string }{
		{"UID", e.UID}, {"summary", e.Summary}, {"location", e.Location}, {"description", e.Description},
	} {
		if !utf8.ValidString(f.text) {
			return fmt.Errorf("the %s of an invitation is not valid UTF-8", f.name)
		}
	}
	if e.URL != "" && !absolute(e.URL) {
		return errors.New("the URL of an invitation has to be absolute and in ASCII, such as https://example.com/booking")
	}
	if err := e.Organizer.validate(); err != nil {
		return fmt.Errorf("the organizer of an invitation %w", err)
	}
	if len(e.Attendees) == 0 {
		return errors.New("an invitation has to have an attendee")
	}
	for i, p := range e.Attendees {
		if err := p.validate(); err != nil {
			return fmt.Errorf("attendee %d of an invitation %w", i+1, err)
		}
	}
	return nil
}

// absolute reports whether s is a URL that may stand in a line as it is.
func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// validate returns the end of a sentence that began with who it is.
func (p Person) validate() error {
	if !utf8.ValidString(p.Name) {
		return errors.New("has a name that is not valid UTF-8")
	}
	a, err := mail.ParseAddress(p.Address)
	if err != nil || a.Address != p.Address || strings.IndexFunc(p.Address, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return errors.New("has to have an e-mail address such as ann@example.com")
	}
	return nil
}

// named returns the parameter for p's name, or nothing.
func (p Person) named() string {
	if name := parameter(p.Name); name != "" {
		return ";CN=" + name
	}
	return ""
}

// mailto returns p's address as a URI (RFC 6068). Few calendars decode it, so
// nothing is encoded that may stand there.
func (p Person) mailto() string {
	var b strings.Builder
	b.WriteString("mailto:")
	for _, c := range []byte(p.Address) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$'*+@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
