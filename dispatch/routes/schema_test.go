package routes

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write docs/routes.schema.json anew")

const schemaFile = "../../docs/routes.schema.json"

func TestSchemaIsCommitted(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(schemaFile, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, Schema()) {
		t.Errorf("%s is not what the types say; run: go test ./dispatch/routes -run TestSchemaIsCommitted -update", schemaFile)
	}
}

// compiledSchema is the schema as an independent program understands it.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is fetched
	if err := c.AddResource(schemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is n as a program has it that reads YAML into JSON's values.
func asJSON(n *node) any {
	switch n.kind {
	case null:
		return nil
	case boolean:
		return n.value == "true"
	case integer, float:
		return json.Number(n.value)
	case list:
		out := []any{}
		for _, item := range n.items {
			out = append(out, asJSON(item))
		}
		return out
	case mapping:
		out := map[string]any{}
		for i, k := range n.keys {
			out[k.value] = asJSON(n.items[i])
		}
		return out
	}
	return n.value
}

// TestSchemaAcceptsExamples: what is documented and delivered with the program
// is what the schema says.
func TestSchemaAcceptsExamples(t *testing.T) {
	t.Parallel()
	s := compiledSchema(t)
	files, err := filepath.Glob("../../examples/*/routes.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples: ", err)
	}
	sources := map[string][]byte{}
	for _, name := range files {
		if sources[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile("../../docs/routes.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?s)```yaml\n(version: .*?)```").FindAllSubmatch(page, -1) {
		if !bytes.Contains(m[1], []byte("delivery:")) { // which is there to be refused
			sources[fmt.Sprintf("docs/routes.md, file %d", i+1)] = m[1]
		}
	}
	if len(sources) < len(files)+3 {
		t.Error("docs/routes.md has no examples")
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			f := &findings{}
			root := parse(source, f)
			if decode(root, f); len(f.list) > 0 {
				t.Fatal(f.problems(name))
			}
			if err := s.Validate(asJSON(root)); err != nil {
				t.Errorf("%#v", err)
			}
		})
	}
}
