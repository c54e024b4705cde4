package routes

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// schemaID names the schema, and is where it can be had.
const schemaID = "https://raw.githubusercontent.com/outbox-listener/outbox-listener/main/docs/routes.schema.json"

// Schema returns the JSON Schema (draft 2020-12) of a routes file, for editors
// and for other programs that write or check such files. It is made from the
// same tags that files are read by. What it accepts Load may still refuse: it
// knows nothing of templates, expressions and SQL, and of the length of
// durations.
func Schema() []byte {
	b := schemaBuilder{names: map[reflect.Type]string{}}
	root := b.mapping(reflect.TypeFor[file]())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.ID = schemaID
	root.Title = "Outbox Listener: routes"
	root.Description = "What events become: which deliveries, to whom, when, and with which content."
	root.Defs = b.defs
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic("routes: " + err.Error()) // texts and numbers only
	}
	return out.Bytes()
}

// schema is what of JSON Schema is needed.
type schema struct {
	Schema      string `json:"$schema,omitempty"`
	ID          string `json:"$id,omitempty"`
	Ref         string `json:"$ref,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`

	Type      any       `json:"type,omitempty"` // a name or several
	Const     any       `json:"const,omitempty"`
	Enum      []string  `json:"enum,omitempty"`
	Pattern   string    `json:"pattern,omitempty"`
	MinLength int       `json:"minLength,omitempty"`
	Minimum   *int      `json:"minimum,omitempty"`
	Maximum   *int      `json:"maximum,omitempty"`
	AnyOf     []*schema `json:"anyOf,omitempty"`

	Items    *schema `json:"items,omitempty"`
	MinItems int     `json:"minItems,omitempty"`

	Properties           schemas   `json:"properties,omitempty"`
	Required             []string  `json:"required,omitempty"`
	OneOf                []*schema `json:"oneOf,omitempty"`
	PropertyNames        *schema   `json:"propertyNames,omitempty"`
	MinProperties        int       `json:"minProperties,omitempty"`
	AdditionalProperties any       `json:"additionalProperties,omitempty"` // a schema, or false

	Defs schemas `json:"$defs,omitempty"`
}

// schemas is an object whose keys have an order.
type schemas []schemaEntry

type schemaEntry struct {
	name   string
	schema *schema
}

func (n schemas) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, one := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(one.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.schema)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// schemaBuilder collects the mappings that have a definition of their own.
type schemaBuilder struct {
	names map[reflect.Type]string
	defs  schemas
}

// mapping returns the schema of a mapping that t is read from.
func (b *schemaBuilder) mapping(t reflect.Type) *schema {
	s := &schema{Type: "object", AdditionalProperties: false}
	for _, k := range keysOf(t) {
		of := b.value(k.goType, k)
		of.Description = k.doc
		s.Properties = append(s.Properties, schemaEntry{k.name, of})
		if k.need {
			s.Required = append(s.Required, k.name)
		}
		if k.one != "" { // there is one group in a mapping
			s.OneOf = append(s.OneOf, &schema{Required: []string{k.name}})
		}
	}
	return s
}

// define returns a reference to the definition of t, which it makes where there
// is none. One that stands under a key of its own has its name.
func (b *schemaBuilder) define(t reflect.Type, name string) *schema {
	if known, ok := b.names[t]; ok {
		return &schema{Ref: "#/$defs/" + known}
	}
	b.names[t] = name
	i := len(b.defs)
	b.defs = append(b.defs, schemaEntry{name: name})
	b.defs[i].schema = b.mapping(t)
	return &schema{Ref: "#/$defs/" + name}
}

// value returns the schema of what k takes, t being its type or that of its
// items.
func (b *schemaBuilder) value(t reflect.Type, k key) *schema {
	switch t {
	case reflect.TypeFor[text]():
		return textSchema(k)
	case reflect.TypeFor[span]():
		return &schema{Type: "string", Pattern: patterns["span"].expression}
	case reflect.TypeFor[*tree]():
		return &schema{Type: []string{"object", "array", "string", "number", "boolean"}}
	}
	if to, ok := reflect.New(t).Interface().(fromMapping); ok {
		s := &schema{Type: "object"}
		switch p, ok := hasPattern(k.names); {
		case ok:
			s.PropertyNames = &schema{Pattern: p.expression}
		default:
			s.PropertyNames = &schema{MinLength: 1}
		}
		if k.need {
			s.MinProperties = 1
		}
		k.need = false
		s.AdditionalProperties = b.value(to.valueType(), k)
		return s
	}
	switch t.Kind() {
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int:
		return intSchema(k)
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Struct {
			return b.define(t.Elem(), k.name)
		}
		return b.value(t.Elem(), k)
	case reflect.Struct:
		return b.define(t, strings.ToLower(t.Name()))
	case reflect.Slice:
		item := b.value(t.Elem(), k)
		s := &schema{Type: "array", Items: item}
		if k.need {
			s.MinItems = 1
		}
		if takesOne(t.Elem()) {
			return &schema{AnyOf: []*schema{item, s}}
		}
		return s
	}
	panic("routes: no schema for " + t.String())
}

func textSchema(k key) *schema {
	if len(k.enum) > 0 {
		return &schema{Type: "string", Enum: k.enum}
	}
	if p, ok := hasPattern(k.kind); ok {
		return &schema{Type: "string", Pattern: p.expression}
	}
	s := &schema{Type: []string{"string", "number", "boolean"}}
	if k.need {
		s.MinLength = 1
	}
	return s
}

func intSchema(k key) *schema {
	if len(k.enum) == 1 {
		return &schema{Const: whole(k.enum[0])}
	}
	most := most(k)
	return &schema{Type: "integer", Minimum: &k.min, Maximum: &most}
}
