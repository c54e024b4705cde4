package render

import (
	"errors"
	"fmt"
	"strings"
)

func equal(_ call, args []any) (any, error) {
	for _, other := range args[1:] {
		same, err := equals(args[0], other)
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

func unequal(_ call, args []any) (any, error) {
	same, err := equals(args[0], args[1])
	return !same, err
}

// equals compares two values. Null equals null and ""; to anything else it is
// unequal.
func equals(a, b any) (bool, error) {
	if isNull(a) || isNull(b) {
		return (isNull(a) || a == "") && (isNull(b) || b == ""), nil
	}
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok {
			return x == y, nil
		}
	}
	sign, err := compare(a, b)
	return sign == 0, err
}

// order makes a function of what the sign of a comparison means. With null none
// is true.
func order(means func(sign int) bool) func(call, []any) (any, error) {
	return func(_ call, args []any) (any, error) {
		if isNull(args[0]) || isNull(args[1]) {
			return false, nil
		}
		sign, err := compare(args[0], args[1])
		return err == nil && means(sign), err
	}
}

// compare returns the order of two numbers, exactly, or of two texts, by their
// bytes.
func compare(a, b any) (int, error) {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	}
	if !isNumber(a) || !isNumber(b) {
		if kind(a) == kind(b) {
			return 0, errors.New("two values that are each " + kind(a) + " cannot be compared")
		}
		return 0, fmt.Errorf("%s cannot be compared with %s", kind(a), kind(b))
	}
	x, xok := a.(int64)
	y, yok := b.(int64)
	if xok && yok {
		switch {
		case x < y:
			return -1, nil
		case x > y:
			return 1, nil
		}
		return 0, nil
	}
	p, err := amount(a)
	if err != nil {
		return 0, err
	}
	q, err := amount(b)
	if err != nil {
		return 0, err
	}
	return p.Cmp(q), nil
}

func isNumber(v any) bool {
	switch v.(type) {
	case int64, Number:
		return true
	}
	return false
}
