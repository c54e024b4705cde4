//go:build unix

package faultrig

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/evidence"
)

var (
	mutantsFlag     = flag.String("mutants", "", "a regular expression for the mutants to be run; all of them: .")
	mutantsPageFlag = flag.String("mutants-page", "", "a file that gets what each mutant is and which test found it, as Markdown")
)

// killer is the line of a patch that says which test has to fail.
var killer = regexp.MustCompile(`(?m)^test: (\./[a-z/]+) (\S+)$`)

// TestMutants: each patch in testdata/mutants puts a fault into a copy of the
// tree, and the test that the patch names fails there. That takes minutes: where
// -mutants is not given it only looks whether the patches fit.
func TestMutants(t *testing.T) {
	patches, err := filepath.Glob("testdata/mutants/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatalf("no patches: %v", err)
	}
	if *mutantsFlag == "" {
		for _, p := range patches {
			killerOf(t, p)
			check := exec.Command("git", "apply", "--check", "internal/faultrig/"+filepath.ToSlash(p))
			check.Dir = filepath.Join("..", "..")
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s does not fit any more and has to be made anew: %v\n%s", p, err, out)
			}
		}
		return
	}
	wanted, err := regexp.Compile(*mutantsFlag)
	if err != nil {
		t.Fatal(err)
	}
	m := mutants{dir: t.TempDir(), passed: map[string]bool{}, found: map[string]string{}}
	begun, run := time.Now(), 0
	t.Cleanup(func() {
		if *mutantsPageFlag != "" {
			m.page(t, *mutantsPageFlag, time.Since(begun), run)
		}
	})
	for _, p := range patches {
		name := strings.TrimSuffix(filepath.Base(p), ".patch")
		if !wanted.MatchString(name) {
			continue
		}
		run++
		t.Run(name, func(t *testing.T) {
			t.Parallel() // as many as -parallel says
			m.try(t, name, p)
		})
	}
}

// mutants are what tries of patches have in common.
type mutants struct {
	dir    string
	mu     sync.Mutex
	trees  []string          // copies of the tree that nobody uses
	passed map[string]bool   // tests that pass without a mutant, by their command
	found  map[string]string // a line of the page for each mutant that was killed, by its name
}

// try fails unless the test that a patch names passes without and fails with it.
func (m *mutants) try(t *testing.T, name, patch string) {
	tree := m.tree(t)
	args := killerOf(t, patch)
	key := strings.Join(args, " ")
	m.mu.Lock()
	passed := m.passed[key]
	m.mu.Unlock()
	if !passed {
		if out, err := goTest(t, tree, args); err != nil || strings.Contains(out, "no tests to run") {
			t.Fatalf("without the mutant, go %s: %v\n%s", key, err, out)
		}
	}
	path, err := filepath.Abs(patch)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, tree, path)
	out, err := goTest(t, tree, args)
	apply(t, tree, "-R", path)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed[key] = true
	m.trees = append(m.trees, tree)
	switch {
	case err == nil:
		t.Errorf("survived go %s", key)
	case !strings.Contains(out, "--- FAIL: ") && !strings.Contains(out, "\npanic: ") && !strings.HasPrefix(out, "panic: "):
		t.Errorf("it does not fail by a test: %v\n%s", err, out)
	default:
		t.Logf("killed by go %s", key)
		m.found[name] = mutantLine(t, patch, out)
	}
}

// tree returns a copy of the tree that nobody else uses.
func (m *mutants) tree(t *testing.T) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.trees); n > 0 {
		tree := m.trees[n-1]
		m.trees = m.trees[:n-1]
		return tree
	}
	return copyTree(t, m.dir)
}

// page writes what was found of run mutants.
func (m *mutants) page(t *testing.T, path string, took time.Duration, run int) {
	t.Helper()
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.found)) {
		lines.WriteString(m.found[name])
	}
	page := fmt.Sprintf("# Mutants\n\nWhat `just mutants` came to: %s, in %s.\n%d of %d were found by their tests.\n\n| fault in our own code | found by | in |\n|---|---|---|\n%s",
		evidence.Source(), took.Round(time.Minute), len(m.found), run, lines.String())
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Error(err)
	}
}

// mutantLine is the line of a page for a mutant, given what the test that found it printed.
func mutantLine(t *testing.T, patch, out string) string {
	t.Helper()
	text, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	what, _, _ := strings.Cut(string(text), "\n\n")
	m := killer.FindSubmatch(text)
	took := "a panic"
	if f := failed.FindStringSubmatch(out); f != nil {
		took = f[1]
	}
	return fmt.Sprintf("| %s | `%s` `%s` | %s |\n", strings.ReplaceAll(strings.Join(strings.Fields(what), " "), "|", "\\|"), m[1], m[2], took)
}

// failed is the line of a test that failed, with how long it took.
var failed = regexp.MustCompile(`(?m)^--- FAIL: \S+ \(([^)]+)\)$`)

// killerOf returns the arguments of the go command that has to fail.
func killerOf(t *testing.T, patch string) []string {
	t.Helper()
	text, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	m := killer.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no line of the form: test: ./package TestName", patch)
	}
	pattern := "^(" + string(m[2]) + ")$"
	// Without paths in it, what was built for another copy serves this one too.
	args := []string{"test", "-trimpath", "-vet=off", "-count=1", "-failfast", "-timeout=5m", "-run=" + pattern, string(m[1])}
	if string(m[1]) == "./internal/faultrig" {
		args = append(args, "-runs=8") // what a mutant does wrong shows under the fault that asks for it
	}
	return args
}

// goTest runs the go command in a tree.
func goTest(t *testing.T, tree string, args []string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = tree
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// apply puts a patch into the tree, or with -R takes it out. A patch that no
// longer fits has to be made anew.
func apply(t *testing.T, tree string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"apply", "--whitespace=nowarn"}, args...)...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tree))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s", err, out)
	}
}

// copyTree returns a copy within dir of what is in the repository or about to be.
func copyTree(t *testing.T, dir string) string {
	t.Helper()
	root := filepath.Join("..", "..")
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	tree, err := os.MkdirTemp(dir, "tree-")
	if err != nil {
		t.Fatal(err)
	}
	files := slices.DeleteFunc(strings.Split(string(out), "\x00"), func(name string) bool { return name == "" })
	for _, name := range files {
		from, to := filepath.Join(root, name), filepath.Join(tree, name)
		text, err := os.ReadFile(from)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		info, serr := os.Stat(from)
		if err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}
