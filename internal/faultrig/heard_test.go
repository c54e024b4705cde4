package faultrig

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLinesOfFiles: what two files of an earlier stop have come to are two causes, and what one has is one.
func TestLinesOfFiles(t *testing.T) {
	t.Parallel()
	text := func(name string) string {
		return `01:15:05.774 d2.5 {"time":"2026-11-30T02:15:05.773Z","level":"WARN","msg":"outcomes of an earlier stop are on record","file":"` + name + `"}` + "\n"
	}
	for _, tt := range []struct {
		second string
		want   int
	}{{"b.jsonl", 0}, {"a.jsonl", 1}} {
		r := &run{dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(r.dir, "log.txt"), []byte(text("a.jsonl")+text(tt.second)), 0o600); err != nil {
			t.Fatal(err)
		}
		said, leaked, err := r.heard()
		if err != nil || len(said) != 2 || len(leaked) > 0 {
			t.Fatal(said, leaked, err)
		}
		c := &check{Evidence: &Evidence{Said: said}, Report: &Report{}}
		if c.quietly(); len(c.Problems) != tt.want {
			t.Errorf("a.jsonl and %s: %v, want %d problems", tt.second, c.Problems, tt.want)
		}
	}
}
