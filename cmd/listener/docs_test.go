package main

import (
	"bytes"
	"encoding/json"
	"go/format"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

const root = "../.."

// page is a file that people read.
type page struct {
	path string // from the root
	text string
}

// pages returns README.md and docs/, and with deploy what is there too.
func pages(t testing.TB, deploy bool) []page {
	t.Helper()
	var list []page
	add := func(path string) {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, page{path, strings.ReplaceAll(string(text), "\r\n", "\n")})
	}
	add("README.md")
	dirs := []string{"docs"}
	if deploy {
		dirs = append(dirs, "deploy")
	}
	for _, dir := range dirs {
		err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				add(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

var (
	fenced  = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	span    = regexp.MustCompile("`([^`\n]+)`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	ourName = regexp.MustCompile(`\b(?:OUTBOX|DATABASE|ADMIN|TWILIO|SMTP|OPENAI)(?:_[A-Z0-9]+)+`)
	command = regexp.MustCompile(`(?:^|[\s/\\])listener(?:\.exe)?((?:[ \t]+\S+)+)`)
)

// blocks are the fenced blocks of one language in p.
func (p page) blocks(language string) []string {
	var list []string
	for _, m := range fenced.FindAllStringSubmatch(p.text, -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

// prose is p without its fenced blocks.
func (p page) prose() string { return fenced.ReplaceAllString(p.text, "") }

// code is everything in p that is set as code, piece by piece: lines of
// blocks, fenced or indented, and spans.
func (p page) code() []string {
	var list []string
	for _, m := range fenced.FindAllStringSubmatch(p.text, -1) {
		list = append(list, strings.Split(m[2], "\n")...)
	}
	for _, line := range strings.Split(p.prose(), "\n") {
		if strings.HasPrefix(line, "    ") {
			list = append(list, line)
			continue
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			list = append(list, m[1])
		}
	}
	return list
}

// TestPagesNameVariables: every variable that a page or a deployment file
// names is one that the program knows.
func TestPagesNameVariables(t *testing.T) {
	known := []string{"OUTBOX_DEV_PG_BIN", "OUTBOX_DEV_API_URL", "OUTBOX_TEST_DATABASE_URL", "OUTBOX_TEST_EVENTS", "OUTBOX_TEST_SMS_RUNS", "OUTBOX_TEST_SEED", "OUTBOX_TEST_SQL_RUNS", "OUTBOX_TEST_CUTS", "OUTBOX_TEST_FSYNC", "OUTBOX_FAILPOINT"} // of dev and of the tests
	for i := range variables {
		known = append(known, variables[i].name)
		if variables[i].secret {
			known = append(known, variables[i].name+"_FILE")
		}
	}
	for _, p := range pages(t, true) {
		for _, name := range ourName.FindAllString(p.text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names %s, which nothing reads", p.path, name)
			}
		}
	}
}

// TestPagesLink: every link to a file leads to one, and to a heading in it.
func TestPagesLink(t *testing.T) {
	anchors := map[string][]string{}
	all := pages(t, false)
	for _, p := range all {
		for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
			anchor := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
			anchors[p.path] = append(anchors[p.path], regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(anchor, ""))
		}
	}
	for _, p := range all {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := p.path
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(p.path), file))
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", p.path, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchors[target], anchor) {
				t.Errorf("%s links to %s: no such heading", p.path, m[1])
			}
		}
	}
}

// TestPagesRunCommands: every command line of the listener in a page has
// commands and flags that there are.
func TestPagesRunCommands(t *testing.T) {
	parser, err := kong.New(&cli{}, helpVars(), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range pages(t, false) {
		for _, text := range p.code() {
			m := command.FindStringSubmatch(text)
			if m == nil {
				continue
			}
			seen++
			if problem := unknown(parser.Model.Node, strings.Fields(m[1])); problem != "" {
				t.Errorf("%s: %q: %s", p.path, strings.TrimSpace(text), problem)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d command lines found", seen)
	}
}

// unknown says which of words, as far as they are a command line and not what
// is said about it, is no command or flag of top.
func unknown(top *kong.Node, words []string) string {
	node := top
	for i := 0; i < len(words); i++ {
		word := strings.Trim(words[i], "[]\"'`")
		name, isFlag := strings.CutPrefix(word, "--")
		if word == "--help" { // kong adds it when it parses
			continue
		}
		if isFlag {
			name, _, set := strings.Cut(name, "=")
			flag := flagOf(node, name)
			if flag == nil {
				return "no flag --" + name
			}
			if !set && !flag.IsBool() {
				i++
			}
			continue
		}
		next := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		if next < 0 {
			if node == top && regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
				return "no command " + word
			}
			return "" // the rest is an argument, or prose
		}
		node = node.Children[next]
	}
	return ""
}

// flagOf finds a flag of node, of those above it, or of the default commands
// below it.
func flagOf(node *kong.Node, name string) *kong.Flag {
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if f.Name == name {
				return f
			}
		}
	}
	for n := node.DefaultCmd; n != nil; n = n.DefaultCmd {
		for _, f := range n.Flags {
			if f.Name == name {
				return f
			}
		}
	}
	return nil
}

// TestProgramsInPages: the Go programs in the pages compile, and look as gofmt
// wants them.
func TestProgramsInPages(t *testing.T) {
	t.Parallel()
	overlay := map[string]map[string]string{"Replace": {}}
	args := []string{"build", "-overlay", filepath.Join(t.TempDir(), "overlay.json")}
	for _, p := range pages(t, false) {
		for _, program := range p.blocks("go") {
			if !strings.HasPrefix(program, "package main\n") {
				continue
			}
			if neat, err := format.Source([]byte(program)); err != nil || string(neat) != program {
				t.Errorf("%s: a program is not as gofmt wants it: %v", p.path, err)
			}
			// Not package main, so that nothing has to be linked.
			library := strings.Replace(program, "package main", "package page", 1)
			name := "page_" + strings.TrimSuffix(filepath.Base(p.path), ".md")
			path, err := filepath.Abs(filepath.Join(root, "docs", name, "page.go"))
			if err != nil {
				t.Fatal(err)
			}
			overlay["Replace"][path] = write(t, "page.go", library)
			args = append(args, "./docs/"+name)
		}
	}
	if len(args) < 5 {
		t.Fatalf("programs found: %v", args[3:])
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(args[2], text, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", args...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, bytes.TrimSpace(out))
	}
}

// TestLedgerPage: the statements of docs/ledger.md run, and every column is
// described.
func TestLedgerPage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "ledger.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := page{"docs/ledger.md", strings.ReplaceAll(string(text), "\r\n", "\n")}
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	statements := p.blocks("sql")
	if len(statements) < 10 {
		t.Errorf("%d statements found", len(statements))
	}
	for _, sql := range statements {
		sql = strings.ReplaceAll(sql, "outbox_operator", "current_user")
		if _, err := conn.Conn().PgConn().Exec(t.Context(), "begin; "+sql+"; rollback").ReadAll(); err != nil {
			t.Errorf("%s\n%v", sql, err)
		}
		if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"deliveries", "attempts"} {
		for _, column := range pgtest.QueryVals[string](t, db, `select column_name::text from information_schema.columns
			where table_schema = 'outbox' and table_name = $1`, table) {
			if !strings.Contains(p.text, "`"+column+"`") {
				t.Errorf("column %s of outbox.%s is not described", column, table)
			}
		}
	}
	for _, state := range pgtest.QueryVals[string](t, db, `select (regexp_matches(pg_get_constraintdef(oid), '''([a-z]+)''', 'g'))[1]
		from pg_constraint where conname = 'deliveries_state'`) {
		if !strings.Contains(p.text, "\n| `"+state+"` |") {
			t.Errorf("state %s is not described", state)
		}
	}
}

// TestPagesNameTests: every test that a page names is there.
func TestPagesNameTests(t *testing.T) {
	defined := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	known := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		for _, m := range defined.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)[`/]")
	for _, p := range pages(t, true) {
		for _, m := range named.FindAllStringSubmatch(p.text, -1) {
			if !known[m[1]] {
				t.Errorf("%s names %s, which is no test", p.path, m[1])
			}
		}
	}
}
