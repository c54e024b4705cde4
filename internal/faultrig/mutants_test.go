//go:build unix

package faultrig

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var mutantsFlag = flag.String("mutants", "", "a regular expression for the mutants to be run; all of them: .")

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
	tree := copyTree(t)
	tried := map[string]bool{} // tests that pass without a mutant, by their command
	for _, p := range patches {
		name := strings.TrimSuffix(filepath.Base(p), ".patch")
		if !wanted.MatchString(name) {
			continue
		}
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
			}
		})
	}
}

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
