package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strconv"
)

// Null is JSON's null. It prints nothing, is false in a condition and equal to
// "". It is an array without elements because that is what templates take for
// false, whatever they know of a type.
type Null [0]struct{}

// String returns "".
func (Null) String() string { return "" }

// MarshalJSON returns null.
func (Null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// Decode reads JSON into the values that templates see: map[string]any, []any,
// string, bool, Null, int64 for the integers that fit, and Number for all other
// numbers. json.Marshal of them gives the same JSON again, with its keys sorted.
// Of a key that is there twice the last one counts.
func Decode(raw json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it is not JSON: it ends too early")
		}
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not JSON: something follows the value")
	}
	return convert(v), nil
}

// convert replaces in place what encoding/json makes of null and numbers.
func convert(v any) any {
	switch v := v.(type) {
	case nil:
		return Null{}
	case json.Number:
		return number(string(v))
	case []any:
		for i := range v {
			v[i] = convert(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = convert(v[k])
		}
	}
	return v
}

// number returns the value of a JSON number: an int64 where that says the same.
func number(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		return n
	}
	return newNumber(text)
}

// normal returns v as one of the types that Decode makes. The scope may have been
// put together by hand, literals are ints, and the data of an execution stands
// for the scope.
func normal(v any) (any, error) {
	switch v := v.(type) {
	case string, int64, bool, Null, Number, map[string]any, []any:
		return v, nil
	case nil:
		return Null{}, nil
	case int:
		return int64(v), nil
	case *run:
		return v.scope, nil
	case htmltemplate.URL:
		return string(v), nil
	case json.Number:
		return number(string(v)), nil
	}
	return nil, fmt.Errorf("a value of the Go type %T is not one that templates see", v)
}

// kind says in a few words what v is.
func kind(v any) string {
	switch v.(type) {
	case Null:
		return "null"
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64, Number:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v)
}

// text returns what v looks like in a text; ok is false for lists and objects.
func text(v any) (s string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case Null:
		return "", true
	}
	return "", false
}

// empty reports whether default replaces v.
func empty(v any) bool {
	switch v := v.(type) {
	case Null:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
