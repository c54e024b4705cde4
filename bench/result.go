package bench

import (
	"fmt"
	"time"
)

// A result is what a scenario found.
type result struct {
	name, what string
	figures    []*figure
	checks     []*check
	notes      []string // about the method, for the report
	took       time.Duration
	cannot     string // why it was not run; "" where it was
	err        error
	small      bool // too small for its figures to be held against targets

	progress func(format string, args ...any)
}

// A figure is one thing that was measured, once a round.
type figure struct {
	label  string
	unit   string
	values []float64
	plain  bool // not drawn: a detail, or of another unit than its neighbours
}

// add notes one measurement, and prints it.
func (res *result) add(label, unit string, value float64) {
	f := res.figure(label, unit)
	f.values = append(f.values, value)
	res.progress("  %s · %s: %s %s", res.name, label, number(value), unit)
}

// detail is add for what is not to be drawn.
func (res *result) detail(label, unit string, value float64) {
	res.figure(label, unit).plain = true
	res.add(label, unit, value)
}

// each is detail for one value of each round.
func (res *result) each(label, unit string, values []float64) {
	for _, v := range values {
		res.detail(label, unit, v)
	}
}

func (res *result) figure(label, unit string) *figure {
	for _, f := range res.figures {
		if f.label == label {
			return f
		}
	}
	f := &figure{label: label, unit: unit}
	res.figures = append(res.figures, f)
	return f
}

// values returns what was measured under label; none where nothing was.
func (res *result) values(label string) []float64 {
	for _, f := range res.figures {
		if f.label == label {
			return f.values
		}
	}
	return nil
}

// note keeps a line about the method for the report.
func (res *result) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	for _, n := range res.notes {
		if n == line {
			return
		}
	}
	res.notes = append(res.notes, line)
}

// A check holds a value against a target. Of several rounds the median counts.
type check struct {
	what    string
	unit    string
	values  []float64
	atLeast bool // else at most
	target  float64
	small   bool // measured in so small a run that it says nothing of the target
}

// atLeast adds a check that values reach a target.
func (res *result) atLeast(what, unit string, target float64, values []float64) {
	res.checks = append(res.checks, &check{what, unit, values, true, target, res.small})
}

// atMost adds a check that values stay within a target.
func (res *result) atMost(what, unit string, target float64, values []float64) {
	res.checks = append(res.checks, &check{what, unit, values, false, target, res.small})
}

// never adds a check that none of values is above 0: all of them count, not
// their median, and in a small run too.
func (res *result) never(what string, values []float64) {
	if len(values) > 0 {
		values = []float64{percentile(values, 100)}
	}
	res.checks = append(res.checks, &check{what, "", values, false, 0, false})
}

// measured reports whether there is anything to judge.
func (c *check) measured() bool { return len(c.values) > 0 }

func (c *check) met() bool {
	if c.atLeast {
		return median(c.values) >= c.target
	}
	return median(c.values) <= c.target
}

// wanted is the target as people write it.
func (c *check) wanted() string {
	sign := "≤"
	if c.atLeast {
		sign = "≥"
	}
	return sign + " " + withUnit(number(c.target), c.unit)
}

// found is the median, with the range where there are several values.
func (c *check) found() string {
	if !c.measured() {
		return "–"
	}
	return withUnit(spread(c.values), c.unit)
}

func (c *check) mark() string {
	switch {
	case !c.measured():
		return "not measured"
	case c.small:
		return "not judged"
	case c.met():
		return "met"
	}
	return "not met"
}

func (c *check) verdict() string {
	return fmt.Sprintf("%s (wanted %s): %s", c.found(), c.wanted(), c.mark())
}

// spread is "median (min–max)", or the value where there is one.
func spread(values []float64) string {
	if len(values) == 1 {
		return number(values[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(values)), number(percentile(values, 0)), number(percentile(values, 100)))
}

func withUnit(s, unit string) string {
	switch unit {
	case "":
		return s
	case "x":
		return s + "x"
	}
	return s + " " + unit
}
