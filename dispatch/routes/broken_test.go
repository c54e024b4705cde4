package routes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBroken loads the files of testdata/broken. Each begins with comments that
// have the problems it is refused for, all of them, in order:
//
//	# want: 7:5: a part of the message
//
// A file that the schema accepts, since no schema can say what is wrong with it,
// has the comment "# schema: accepts". All others that are YAML have to be
// refused by the schema too.
func TestBroken(t *testing.T) {
	t.Parallel()
	s := compiledSchema(t)
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			accepts := false
			for line := range strings.Lines(string(source)) {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, strings.TrimSpace(w))
				}
				accepts = accepts || strings.TrimSpace(line) == "# schema: accepts"
			}
			_, err = Load("f", source, Options{})
			var got []string
			if p, ok := errors.AsType[*Problems](err); ok {
				for _, one := range p.List {
					got = append(got, fmt.Sprintf("%d:%d: %s", one.Line, one.Column, one.Message))
				}
			}
			if len(want) == 0 || len(got) != len(want) {
				t.Fatalf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for i, w := range want {
				place, part, _ := strings.Cut(w, ": ")
				if !strings.HasPrefix(got[i], place+": ") || !strings.Contains(got[i], part) {
					t.Errorf("%s\nwant %s", got[i], w)
				}
			}
			root := parse(source, &findings{})
			if root == nil || strings.Contains(strings.Join(got, "\n"), "already, and again") {
				return // no program reads it
			}
			if err := s.Validate(asJSON(root)); (err == nil) != accepts {
				t.Errorf("the schema says: %v", err)
			}
		})
	}
}
