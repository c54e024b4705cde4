package routes

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// FuzzDecode: no bytes make reading a file panic, run on or fill the memory; all
// that is refused has a place within the file; and where a text is said to begin,
// it begins.
func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{"testdata/broken/*.yaml", "../../examples/*/routes.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal("no files: ", err)
		}
		for _, name := range files {
			source, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(source)
		}
	}
	f.Add([]byte("a: |2-\n    b\n\n  c\nd: >+\n  e\n   f\n\ng: 'h\n\n  i'\nj: \"k\\\n  l\\u00e4\"\n"))
	f.Add([]byte("\ufeffa: [b, {c: 'd''e'}]\r\nf: {g: , h}\r\n"))
	f.Fuzz(func(t *testing.T, source []byte) {
		if len(source) > 32<<10 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begun := time.Now()
		defer time.AfterFunc(30*time.Second, func() { panic("it does not end") }).Stop()
		found := &findings{}
		root := parse(source, found)
		decode(root, found)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("it took %d bytes", took)
		}
		if root == nil && len(found.list) == 0 {
			t.Error("there is nothing, and nothing is wrong")
		}
		lines := strings.Split(strings.ReplaceAll(strings.TrimPrefix(string(source), "\ufeff"), "\r\n", "\n"), "\n")
		for _, p := range found.list {
			if p.Message == "" || p.Line > len(lines) || p.Line > 0 && (p.Column < 1 || p.Column > len([]rune(lines[p.Line-1]))+1) {
				t.Errorf("%+v is outside", p)
			}
		}
		if root != nil && len(found.list) == 0 || root != nil && root.kind == mapping {
			stands(t, root, lines)
		}
	})
}

// stands holds what node.go says of places against the file.
func stands(t *testing.T, n *node, lines []string) {
	t.Helper()
	for i := range n.items {
		if n.kind == mapping {
			stands(t, n.keys[i], lines)
		}
		stands(t, n.items[i], lines)
	}
	if n.textLine == 0 || n.style == folded {
		return
	}
	for i, want := range strings.Split(strings.TrimRight(n.value, "\n"), "\n") {
		if want == "" || strings.Trim(want, " ") == "" {
			continue
		}
		line, column := n.within(i+1, 1)
		have := []rune(lines[line-1])
		if column-1 > len(have) || !strings.HasPrefix(string(have[column-1:]), want) {
			t.Errorf("%q is not at %d:%d, where %q is", want, line, column, lines[line-1])
		}
	}
}
