package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/preview"
)

// What holds where an event's file says nothing: the same each time.
var (
	defaultID      = uuid.MustParse("00000000-0000-4000-8000-000000000001")
	defaultCreated = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
)

// given is a file NAME.event.json: an event, and what the world answers to the
// routes.
type given struct {
	event   dispatch.Event
	now     time.Time
	env     map[string]string
	lookups map[string][]json.RawMessage // rows, by "lookup" or "route.lookup"
	answers map[string]json.RawMessage   // by "step" or "route.step"
	copy    map[string]string            // nil: no model is configured
}

// key is a key of the file, and how its value is read.
type key struct {
	name    string
	accepts string
	read    func(g *given, raw json.RawMessage) error // the error ends a sentence that began with the key
}

var keys = []key{
	{"type", "the type of the event", func(g *given, raw json.RawMessage) error { return text(raw, &g.event.Type) }},
	{"payload", "its payload", func(g *given, raw json.RawMessage) error {
		var b bytes.Buffer
		err := json.Compact(&b, raw)
		g.event.Payload = b.Bytes()
		return err
	}},
	{"id", "its id", func(g *given, raw json.RawMessage) error {
		var s string
		if text(raw, &s) != nil || len(s) != 36 || g.event.ID.UnmarshalText([]byte(s)) != nil {
			return errors.New("has to be a uuid such as " + defaultID.String())
		}
		return nil
	}},
	{"created_at", "when it was inserted", func(g *given, raw json.RawMessage) error { return moment(raw, &g.event.CreatedAt) }},
	{"now", "what time it is", func(g *given, raw json.RawMessage) error { return moment(raw, &g.now) }},
	{"env", "variables of expose_env", func(g *given, raw json.RawMessage) error { return texts(raw, &g.env) }},
	{"lookups", "rows", func(g *given, raw json.RawMessage) error { return g.rows(raw) }},
	{"answers", "what steps answer", func(g *given, raw json.RawMessage) (err error) {
		if g.answers, err = preview.Answers(raw); err != nil {
			return fmt.Errorf("is wrong: %w", err)
		}
		return nil
	}},
	{"copy", "what the model writes", func(g *given, raw json.RawMessage) error { return texts(raw, &g.copy) }},
}

func keyNames() string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// readEvent reads an event's file; name is what errors call it. It returns all
// that is wrong with it.
func readEvent(name string, source []byte) (*given, []error) {
	source = bytes.TrimPrefix(source, []byte("\ufeff"))
	at := func(offset int64, format string, args ...any) error {
		before := source[:max(0, min(offset, int64(len(source))))]
		line := bytes.Count(before, []byte("\n")) + 1
		column := len([]rune(string(before[bytes.LastIndexByte(before, '\n')+1:]))) + 1
		return fmt.Errorf("%s:%d:%d: %s", name, line, column, fmt.Sprintf(format, args...))
	}
	var whole any
	if err := json.Unmarshal(source, &whole); err != nil {
		offset := int64(0)
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = e.Offset - 1
		}
		return nil, []error{at(offset, "it is not JSON: %v", err)}
	}
	dec := json.NewDecoder(bytes.NewReader(source))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, []error{at(0, "it has to be an object with the keys %s", keyNames())}
	}
	g := &given{}
	var problems []error
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, []error{at(dec.InputOffset(), "it is not JSON: %v", err)} // not after Unmarshal
		}
		k, _ := token.(string)
		start := int64(bytes.LastIndexByte(source[:dec.InputOffset()-1], '"'))
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, []error{at(dec.InputOffset(), "it is not JSON: %v", err)}
		}
		known := false
		for _, one := range keys {
			if one.name != k {
				continue
			}
			known = true
			if err := one.read(g, raw); err != nil {
				problems = append(problems, at(dec.InputOffset()-int64(len(raw)), "%q %v", k, err))
			}
		}
		switch {
		case !known:
			problems = append(problems, at(start, "unknown key %q; accepted are %s", k, keyNames()))
		case seen[k]:
			problems = append(problems, at(start, "the key %q is there twice", k))
		}
		seen[k] = true
	}
	if _, err := dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, []error{at(dec.InputOffset(), "it is not JSON: %v", err)}
	}
	for _, k := range []string{"type", "payload"} {
		if !seen[k] {
			problems = append(problems, at(0, "the key %q is missing", k))
		}
	}
	g.defaults()
	return g, problems
}

func (g *given) defaults() {
	if g.event.ID == uuid.Nil {
		g.event.ID = defaultID
	}
	if g.event.CreatedAt.IsZero() {
		g.event.CreatedAt = defaultCreated
	}
	if g.now.IsZero() {
		g.now = g.event.CreatedAt
	}
}

func text(raw json.RawMessage, into *string) error {
	if json.Unmarshal(raw, into) != nil || *into == "" {
		return errors.New("has to be a text")
	}
	return nil
}

func texts(raw json.RawMessage, into *map[string]string) error {
	var values map[string]*string
	if json.Unmarshal(raw, &values) != nil || values == nil {
		return errors.New("has to be an object of texts")
	}
	*into = map[string]string{}
	for name, v := range values {
		if v == nil {
			return fmt.Errorf("has null for %q; it has to be a text", name)
		}
		(*into)[name] = *v
	}
	return nil
}

func moment(raw json.RawMessage, into *time.Time) error {
	var s string
	if text(raw, &s) == nil {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			*into = t
			return nil
		}
	}
	return errors.New("has to be a time such as 2026-01-15T12:00:00Z")
}

// rows reads canned rows: null is none, an object is one, a list is many.
func (g *given) rows(raw json.RawMessage) error {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil || values == nil {
		return errors.New("has to be an object that has rows by the names of lookups")
	}
	g.lookups = map[string][]json.RawMessage{}
	for name, v := range values {
		var row map[string]json.RawMessage
		var list []json.RawMessage
		switch {
		case json.Unmarshal(v, &row) == nil: // null too
			g.lookups[name] = nil
			if row != nil {
				g.lookups[name] = []json.RawMessage{v}
			}
			continue
		case json.Unmarshal(v, &list) != nil:
			return fmt.Errorf("has something else than rows for %q; it has to be a row as an object, a list of them, or null", name)
		}
		for _, one := range list {
			row = nil
			if json.Unmarshal(one, &row) != nil || row == nil {
				return fmt.Errorf("has something in the list %q that is no row; each has to be an object", name)
			}
		}
		g.lookups[name] = list
	}
	return nil
}
