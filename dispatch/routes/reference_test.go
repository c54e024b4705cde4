package routes

import (
	"os"
	"strings"
	"testing"
)

// TestReference: docs/routes.md has the reference that the code makes; `just
// docs` writes it.
func TestReference(t *testing.T) {
	const path, mark = "../../docs/routes.md", "<!-- made from the code -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), mark)
	if !ok {
		t.Fatalf("no %s", mark)
	}
	want := "\n" + string(Reference())
	if *update {
		if err := os.WriteFile(path, []byte(before+mark+want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if after != want {
		t.Error("docs/routes.md is behind the code; run just docs")
	}
}
