package bench

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// median returns the middle of values, or the mean of the two in the middle;
// NaN when there are none.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// percentile returns the smallest of values that p percent of them do not
// exceed; NaN when there are none.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	i := int(math.Ceil(p/100*float64(len(s)))) - 1
	return s[min(max(i, 0), len(s)-1)]
}

// ratios divides a by b, round by round. A round in which b is nothing has none.
func ratios(a, b []float64) []float64 {
	out := make([]float64, 0, min(len(a), len(b)))
	for i := range cap(out) {
		if b[i] != 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
}

// larger returns the larger of a and b, round by round. One that was not
// measured gives way to the other.
func larger(a, b []float64) []float64 { return ofBoth(a, b, math.Max) }

// smaller is larger for the smaller of the two.
func smaller(a, b []float64) []float64 { return ofBoth(a, b, math.Min) }

// ofBoth is what pick makes of a and b, round by round; of one alone where the other was not measured.
func ofBoth(a, b []float64, pick func(x, y float64) float64) []float64 {
	if len(a) == 0 || len(b) == 0 {
		return append(slices.Clone(a), b...)
	}
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = pick(a[i], b[i])
	}
	return out
}

// number formats v with three digits that count, or all those before the
// point: 0.0123, 1.23, 12.3, 1,234.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	digits := 0
	if a := math.Abs(v); a < 100 && a > 0 {
		digits = min(2-int(math.Floor(math.Log10(a))), 6)
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest = strings.TrimRight(rest, "0"); rest != "" {
		rest = "." + rest
	}
	return sign + whole + rest
}

// ms returns d in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
