package calendar

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Read returns the event of a calendar that Encode wrote. It is no reader of
// calendars that others wrote: of what those may have beside, it sees nothing.
func Read(calendar string) (Event, error) {
	var e Event
	begun := false
	for line := range strings.SplitSeq(strings.ReplaceAll(calendar, "\r\n ", ""), "\r\n") {
		name, params, value := property(line)
		var err error
		switch name {
		case "BEGIN":
			begun = begun || value == "VEVENT"
		case "METHOD":
			e.Method = value
		case "UID":
			e.UID = unescaped(value)
		case "SEQUENCE":
			e.Sequence, err = strconv.Atoi(value)
		case "DTSTAMP":
			e.Stamp, err = time.Parse("20060102T150405Z", value)
		case "DTSTART":
			e.Start, err = time.Parse("20060102T150405Z", value)
		case "DTEND":
			e.End, err = time.Parse("20060102T150405Z", value)
		case "SUMMARY":
			e.Summary = unescaped(value)
		case "LOCATION":
			e.Location = unescaped(value)
		case "DESCRIPTION":
			e.Description = unescaped(value)
		case "URL":
			e.URL = value
		case "ORGANIZER":
			e.Organizer, err = person(params, value)
		case "ATTENDEE":
			var p Person
			p, err = person(params, value)
			e.Attendees = append(e.Attendees, p)
		}
		if err != nil {
			return Event{}, errors.New("the calendar has a " + name + " that cannot be read")
		}
	}
	if !begun {
		return Event{}, errors.New("the calendar has no event")
	}
	return e, nil
}

// property cuts a line into its name, its parameters and its value. What stands
// in quotes separates nothing.
func property(line string) (name string, params []string, value string) {
	quotes, from := false, 0
	var parts []string
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quotes = !quotes
		case c == ';' && !quotes:
			parts, from = append(parts, line[from:i]), i+1
		case c == ':' && !quotes:
			parts = append(parts, line[from:i])
			return parts[0], parts[1:], line[i+1:]
		}
	}
	return "", nil, ""
}

func person(params []string, value string) (Person, error) {
	address, ok := strings.CutPrefix(value, "mailto:")
	address, err := url.PathUnescape(address)
	if !ok || err != nil {
		return Person{}, errors.New("no address")
	}
	p := Person{Address: address}
	for _, param := range params {
		if name, ok := strings.CutPrefix(param, "CN="); ok {
			p.Name = uncarets.Replace(strings.Trim(name, `"`))
		}
	}
	return p, nil
}

var (
	unescapes = strings.NewReplacer(`\\`, `\`, `\;`, ";", `\,`, ",", `\n`, "\n")
	uncarets  = strings.NewReplacer("^^", "^", "^'", `"`, "^n", "\n")
)

func unescaped(s string) string { return unescapes.Replace(s) }
