package query

import (
	"encoding/json"
	"strings"
)

// Bind returns the statement with $1, $2, … and the values in that order, as
// text, which Postgres reads by the type of the parameter. args has the JSON of
// each parameter by its name; one that is missing or null is null. A string is its
// text; a list is a Postgres array where the parameter says so, and JSON elsewhere,
// as an object is.
func (q *Query) Bind(args map[string]json.RawMessage) (statement string, values []*string) {
	for _, p := range q.params {
		values = append(values, value(args[p.Name()], p.List))
	}
	return q.statement, values
}

func value(raw json.RawMessage, list bool) *string {
	text := strings.TrimSpace(string(raw))
	if text == "" || text == "null" {
		return nil
	}
	switch text[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return &s
		}
	case '[':
		if list {
			if a, ok := array(raw); ok {
				return &a
			}
		}
	}
	return &text
}

// array returns a JSON list as Postgres writes an array.
func array(raw json.RawMessage) (string, bool) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return "", false
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		if len(item) > 0 && item[0] == '[' {
			inner, ok := array(item)
			if !ok {
				return "", false
			}
			b.WriteString(inner)
			continue
		}
		v := value(item, false)
		if v == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(*v))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String(), true
}
