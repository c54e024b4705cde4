package render

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LayoutWord is a word of the layouts of datetime, date and time. All other
// letters and all digits of a layout stand in 'single quotes'; spaces and
// punctuation are written as they are. am and AM may follow a word directly.
type LayoutWord struct {
	Word    string
	Example string // of 2026-01-05T15:04:09-05:00

	layout string // Go's; "" for the two below
	format func(time.Time) string
}

// LayoutWords returns the words of layouts in the order of the documentation.
func LayoutWords() []LayoutWord { return append([]LayoutWord(nil), layoutWords...) }

var layoutWords = []LayoutWord{
	{Word: "weekday", Example: "Monday", layout: "Monday"},
	{Word: "wday", Example: "Mon", layout: "Mon"},
	{Word: "month", Example: "January", layout: "January"},
	{Word: "mon", Example: "Jan", layout: "Jan"},
	{Word: "MM", Example: "01", layout: "01"},
	{Word: "M", Example: "1", layout: "1"},
	{Word: "day", Example: "5", layout: "2"},
	{Word: "dd", Example: "05", layout: "02"},
	{Word: "nth", Example: "5th", format: ordinal},
	{Word: "year", Example: "2026", layout: "2006"},
	{Word: "yy", Example: "26", layout: "06"},
	{Word: "h", Example: "3", layout: "3"},
	{Word: "hh", Example: "03", layout: "03"},
	{Word: "H", Example: "15", format: func(t time.Time) string { return strconv.Itoa(t.Hour()) }},
	{Word: "HH", Example: "15", layout: "15"},
	{Word: "mm", Example: "04", layout: "04"},
	{Word: "ss", Example: "09", layout: "05"},
	{Word: "am", Example: "pm", layout: "pm"},
	{Word: "AM", Example: "PM", layout: "PM"},
	{Word: "zone", Example: "EST", layout: "MST"},
	{Word: "offset", Example: "-05:00", layout: "-07:00"},
}

var layoutWord = func() map[string]*LayoutWord {
	m := make(map[string]*LayoutWord)
	for i := range layoutWords {
		m[layoutWords[i].Word] = &layoutWords[i]
	}
	return m
}()

func ordinal(t time.Time) string {
	day := t.Day()
	suffix := "th"
	if day/10 != 1 {
		switch day % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(day) + suffix
}

const (
	maxLayout = 200 // bytes
	maxZone   = 64
)

// format writes t by layout.
func format(t time.Time, layout string) (string, error) {
	if len(layout) > maxLayout {
		return "", fmt.Errorf("the layout is longer than %d bytes", maxLayout)
	}
	b := make([]byte, 0, 64)
	for layout != "" {
		ch := layout[0]
		switch {
		case ch == '\'':
			end := strings.IndexByte(layout[1:], '\'')
			if end < 0 {
				return "", errors.New("a ' in the layout has no second one")
			}
			b = append(b, layout[1:1+end]...)
			layout = layout[2+end:]
		case ch >= '0' && ch <= '9':
			return "", fmt.Errorf(`layouts are made of words, such as "weekday, month day, year, h:mm am", not of digits; there are %s; what is to stand as it is goes into 'single quotes'`, allWords())
		case letter(ch):
			end := 1
			for end < len(layout) && letter(layout[end]) {
				end++
			}
			word := layout[:end]
			layout = layout[end:]
			w, half := layoutWord[word], (*LayoutWord)(nil)
			if w == nil && len(word) > 2 {
				w, half = layoutWord[word[:len(word)-2]], layoutWord[word[len(word)-2:]]
				if half == nil || half.Word != "am" && half.Word != "AM" {
					w = nil
				}
			}
			if w == nil {
				return "", fmt.Errorf(`there is no word %s in layouts; there are %s; what is to stand as it is goes into 'single quotes'`, short(word), allWords())
			}
			b = w.append(b, t)
			if half != nil {
				b = half.append(b, t)
			}
		default:
			b = append(b, ch)
			layout = layout[1:]
		}
	}
	return string(b), nil
}

func (w *LayoutWord) append(b []byte, t time.Time) []byte {
	if w.format != nil {
		return append(b, w.format(t)...)
	}
	return t.AppendFormat(b, w.layout)
}

func letter(ch byte) bool { return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' }

func allWords() string {
	var b strings.Builder
	for i, w := range layoutWords {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(w.Word)
	}
	return b.String()
}

// The forms in which Postgres (as JSON and as text) and applications write a
// moment. Fractions of a second are read as well.
var moments = []string{
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05Z07",
	"2006-01-02T15:04:05Z07",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04Z07:00",
}

// moment reads a time with its offset.
func moment(s string) (time.Time, bool) {
	if len(s) > 64 {
		return time.Time{}, false
	}
	for _, layout := range moments {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// unzoned reports whether s is a time of day on a date, without an offset.
func unzoned(s string) bool {
	if len(s) > 64 {
		return false
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

func datetime(c call, args []any) (any, error) {
	return formatTime(c, args, "month day, year, h:mm AM", false)
}

func dateOf(c call, args []any) (any, error) { return formatTime(c, args, "month day, year", true) }

func timeOf(c call, args []any) (any, error) { return formatTime(c, args, "h:mm AM", false) }

// formatTime writes args[0]; dates says that it may be a date without a time.
func formatTime(c call, args []any, layout string, dates bool) (any, error) {
	layout, err := option(args, 1, layout)
	if err != nil {
		return nil, err
	}
	zone, err := option(args, 2, "")
	if err != nil {
		return nil, err
	}
	in := c.run.t.set.Zone
	if in == nil {
		in = time.UTC
	}
	if zone != "" {
		if in, err = location(zone); err != nil {
			return nil, err
		}
	}
	if empty(args[0]) {
		return "", nil
	}
	if s, ok := args[0].(string); ok && dates {
		if t, err := time.Parse(time.DateOnly, strings.TrimSpace(s)); err == nil {
			return written(t, layout)
		}
	}
	t, err := Moment(args[0])
	if err != nil {
		return nil, err
	}
	return written(t.In(in), layout)
}

// Moment reads a value of Decode's as a time with its offset, in the forms that
// Postgres and applications write. Its error repeats nothing of the value.
func Moment(value any) (time.Time, error) {
	s, ok := value.(string)
	if !ok {
		return time.Time{}, fmt.Errorf("it is given %s, and takes a time such as 2026-01-05T15:04:05Z", kind(value))
	}
	s = strings.TrimSpace(s)
	if t, ok := moment(s); ok {
		return t, nil
	}
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return time.Time{}, errors.New("it is given a date without a time; use date for it")
	}
	if unzoned(s) {
		return time.Time{}, errors.New("it is given a time without a zone; have the lookup say which, as in: start_at at time zone 'UTC' as start_at")
	}
	return time.Time{}, errors.New("it is given text that is not a time such as 2026-01-05T15:04:05Z")
}

// written formats t. A layout that is wrong only now comes from the data, which
// no error repeats.
func written(t time.Time, layout string) (any, error) {
	s, err := format(t, layout)
	if err != nil {
		return nil, errors.New("the layout has something in it that layouts do not have; there are " + allWords())
	}
	return s, nil
}

// locations keeps the zones that were found; there are a few hundred at most.
var locations sync.Map

func location(name string) (*time.Location, error) {
	if loc, ok := locations.Load(name); ok {
		return loc.(*time.Location), nil
	}
	errUnknown := errors.New("there is no time zone of that name; it has to be one such as America/New_York")
	// "Local" is the zone of this machine, which says nothing about a customer.
	if len(name) > maxZone || name == "Local" {
		return nil, errUnknown
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, errUnknown
	}
	locations.Store(name, loc)
	return loc, nil
}

func checkTime(_ *Set, args []literal) (int, error) {
	if len(args) > 1 {
		if layout, ok := args[1].value.(string); ok {
			if _, err := format(time.Time{}, layout); err != nil {
				return 1, err
			}
		} else if args[1].value != nil {
			return 1, errors.New(`the layout has to be text, such as "weekday, month day"`)
		}
	}
	if len(args) > 2 {
		if zone, ok := args[2].value.(string); ok && zone != "" {
			if _, err := location(zone); err != nil {
				return 2, err
			}
		}
	}
	return 0, nil
}
