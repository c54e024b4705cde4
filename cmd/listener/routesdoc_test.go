package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// named finds the name of a file at the end of a paragraph, `routes.yaml`:, which
// the block behind it is.
var named = regexp.MustCompile("`([a-z_./-]+)`:$")

// TestRoutesPage does what docs/routes.md says; see doPage.
func TestRoutesPage(t *testing.T) {
	db := pgtest.New(t)
	// All else is in the .env that the page writes.
	doPage(t, "routes.md", db, 8, map[string]string{"DATABASE_URL": asDaemon(t, db)})
}

// doPage does what a page of docs/ says, from its top to its end: it writes its
// files, runs its SQL and its commands, of which it has least at least, and holds
// what they print against the page. With -update the page gets what they print.
func doPage(t *testing.T, name string, db *pgtest.DB, least int, env map[string]string) {
	t.Helper()
	path := filepath.Join(root, "docs", name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), "\r\n", "\n")
	dir := t.TempDir()
	var out strings.Builder
	at, commands := 0, 0
	for _, m := range fenced.FindAllStringSubmatchIndex(page, -1) {
		before, language, block := page[at:m[0]], page[m[2]:m[3]], page[m[4]:m[5]]
		out.WriteString(before)
		at = m[1]
		switch language {
		case "sql":
			pgtest.Exec(t, db, block)
		case "yaml", "json", "sh":
			if name := named.FindStringSubmatch(strings.TrimSpace(before)); name != nil {
				file := filepath.Join(dir, name[1])
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		case "http":
			got := posted(t, db, block)
			if got != block && !*update {
				t.Errorf("the page has\n%s\nbut what comes is\n%s", block, got)
			}
			block = got
		case "console":
			var got strings.Builder
			for _, line := range strings.Split(block, "\n") {
				if command, ok := strings.CutPrefix(line, "$ "); ok {
					commands++
					got.WriteString(line + "\n" + commandOutput(t, dir, env, command))
				}
			}
			if got.String() != block && !*update {
				t.Errorf("the page has\n%s\nbut what comes is\n%s", block, got.String())
			}
			block = got.String()
		}
		out.WriteString("```" + language + "\n" + block + "```")
	}
	if commands < least {
		t.Errorf("%d commands found", commands)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()+page[at:]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commandOutput runs a line such as NAME=value listener check, and returns what
// it prints.
func commandOutput(t *testing.T, dir string, env map[string]string, line string) string {
	t.Helper()
	all := map[string]string{}
	for name, value := range env {
		all[name] = value
	}
	words := strings.Fields(strings.ReplaceAll(line, "'", "")) // quotes keep a shell from reading stars
	for len(words) > 0 && strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(words[0], "=")
		all[name], words = value, words[1:]
	}
	if len(words) == 0 || words[0] != "listener" {
		t.Fatalf("no listener: %s", line)
	}
	p := startListenerIn(t, dir, all, words[1:]...)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s: no end", line)
	}
	return p.stdout.String() + p.stderr.String()
}
