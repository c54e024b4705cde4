//go:build unix

package faultrig

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	begun, tree := time.Now(), copyTree(t)
	var found []string // a line of the page for each mutant that was killed
	run := 0
	tried := map[string]bool{} // tests that pass without a mutant, by their command
	for _, p := range patches {
		name := strings.TrimSuffix(filepath.Base(p), ".patch")
		if !wanted.MatchString(name) {
			continue
		}
		run++
		t.Run(name, func(t *testing.T) {
			args := killerOf(t, p)
			if key := strings.Join(args, " "); !tried[key] {
				if out, err := goTest(t, tree, args); err != nil || strings.Contains(out, "no tests to run") {
					t.Fatalf("without the mutant, go %s: %v\n%s", key, err, out)
				}
				tried[key] = true
			}
			path, err := filepath.Abs(p)
			if err != nil {
				t.Fatal(err)
			}
			apply(t, tree, path)
			defer apply(t, tree, "-R", path)
			out, err := goTest(t, tree, args)
			switch {
			case err == nil:
				t.Errorf("survived go %s", strings.Join(args, " "))
			case !strings.Contains(out, "--- FAIL: ") && !strings.Contains(out, "\npanic: ") && !strings.HasPrefix(out, "panic: "):
				t.Errorf("it does not fail by a test: %v\n%s", err, out)
			default:
				t.Logf("killed by go %s", strings.Join(args, " "))
				found = append(found, mutantLine(t, p, out))
			}
		})
	}
	if *mutantsPageFlag != "" {
		page := fmt.Sprintf("# Mutants\n\nWhat `just mutants` came to: %s, in %s.\n%d of %d were found by their tests.\n\n| fault in our own code | found by | in |\n|---|---|---|\n%s",
			evidence.Source(), time.Since(begun).Round(time.Minute), len(found), run, strings.Join(found, ""))
		if err := os.WriteFile(*mutantsPageFlag, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
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
	args := []string{"test", "-trimpath", "-vet=off", "-count=1", "-timeout=5m", "-run=" + pattern, string(m[1])}
	if string(m[1]) == "./internal/faultrig" {
		args = append(args, "-runs=2")
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

// copyTree returns a copy of what is in the repository or about to be.
func copyTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join("..", "..")
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	tree := t.TempDir()
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
