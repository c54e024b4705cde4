package render

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// Number is a JSON number that is not an int64. It keeps its text, so that it is
// printed and marshalled as it came. Its zero value is the number 0.
//
// Templates look at nothing but a value's kind when they ask whether it is true,
// and a slice is when it has a length. So a Number that is zero, such as 0.00,
// has length 0 and keeps its text between its length and its capacity; any other
// has its text as bytes. Only newNumber makes one.
type Number []byte

func newNumber(text string) Number {
	n := make(Number, len(text))
	copy(n, text)
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	if !strings.ContainsAny(mantissa, "123456789") {
		return n[:0]
	}
	return n
}

// String returns the number as it stood in the JSON.
func (n Number) String() string {
	if cap(n) == 0 {
		return "0"
	}
	return string(n[:cap(n)])
}

// MarshalJSON returns the number as it stood in the JSON.
func (n Number) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

var errUnwieldy = errors.New("a number of more than 200 digits can only be printed")

// rat returns the exact value of a number as it is written in JSON. Numbers that
// would take much memory are refused.
func rat(text string) (*big.Rat, error) {
	const digits = 200
	if len(text) > digits {
		return nil, errUnwieldy
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if e, err := strconv.Atoi(text[i+1:]); err != nil || e > digits || e < -digits {
			return nil, errUnwieldy
		}
	}
	if !decimal(text) {
		return nil, errors.New("it is not a number")
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, errors.New("it is not a number")
	}
	return r, nil
}

// decimal reports whether text is a decimal number; big.Rat would take fractions
// and other bases too.
func decimal(text string) bool {
	text = strings.TrimPrefix(text, "-")
	return text != "" && text[0] >= '0' && text[0] <= '9' &&
		strings.Trim(text, "0123456789.eE+-") == "" && !strings.HasSuffix(text, ".")
}

// amount returns the number that v is, or that it says: drivers and
// applications write decimals as text.
func amount(v any) (*big.Rat, error) {
	switch v := v.(type) {
	case int64:
		return new(big.Rat).SetInt64(v), nil
	case Number:
		return rat(v.String())
	case string:
		r, err := rat(strings.TrimSpace(v))
		if err != nil {
			return nil, errors.New("it is text that is not a number such as 1234.50")
		}
		return r, nil
	}
	return nil, errors.New("it is " + kind(v) + ", not a number")
}

// grouped puts commas between the thousands of a decimal number.
func grouped(number string) string {
	whole, rest, _ := strings.Cut(number, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, digit := range []byte(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(digit)
	}
	if rest != "" {
		b.WriteString("." + rest)
	}
	return b.String()
}
