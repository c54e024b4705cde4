package render

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

func index(_ call, args []any) (any, error) {
	v := args[0]
	for _, key := range args[1:] {
		switch in := v.(type) {
		case Null:
			return v, nil
		case map[string]any:
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("it is given an object, so the key has to be text, not %s", kind(key))
			}
			v = in[name]
		case []any:
			i, ok := key.(int64)
			if !ok {
				return nil, fmt.Errorf("it is given a list, so the key has to be a whole number, not %s", kind(key))
			}
			v = nil
			if i >= 0 && i < int64(len(in)) {
				v = in[i]
			}
		default:
			return nil, errors.New("it is given " + kind(v) + ", and takes an object or a list")
		}
		var err error
		if v, err = normal(v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func checkIndex(_ *Set, args []literal) (int, error) {
	for i, key := range args[1:] {
		if n, ok := key.value.(int64); ok && n < 0 {
			return 1 + i, errors.New("elements are numbered from 0")
		}
	}
	return 0, nil
}

// indexOf knows elements; a key need not be there, so what is below it is not
// known.
func indexOf(value origin, args []literal) origin {
	for _, key := range args[1:] {
		if _, ok := key.value.(int64); !ok {
			return origin{}
		}
		value = value.key("[]")
	}
	return value
}

func slice(_ call, args []any) (any, error) {
	from, err := whole(args[1])
	if err != nil {
		return nil, err
	}
	to := int64(-1)
	if len(args) > 2 {
		if to, err = whole(args[2]); err != nil {
			return nil, err
		}
	}
	if from < 0 || len(args) > 2 && to < from {
		return nil, errors.New("it takes numbers from 0, the second not less than the first")
	}
	switch v := args[0].(type) {
	case Null:
		return v, nil
	case []any:
		size := int64(len(v))
		if to < 0 || to > size {
			to = size
		}
		return v[min(from, to):to:to], nil
	case string:
		start, end := len(v), len(v)
		var n int64
		for i := range v {
			if n == from {
				start = i
			}
			if n == to {
				end = i
				break
			}
			n++
		}
		return v[min(start, end):end], nil
	}
	return nil, errors.New("it is given " + kind(args[0]) + ", and takes a list or text")
}

func length(_ call, args []any) (any, error) {
	switch v := args[0].(type) {
	case Null:
		return int64(0), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	}
	return nil, errors.New("it is given " + kind(args[0]) + ", and takes a list, an object or text")
}
