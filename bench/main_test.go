package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// buildListener returns the path of the program.
func buildListener(t *testing.T) string {
	binary := filepath.Join(t.TempDir(), "listener")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/listener").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// TestRun runs one scenario of each kind for real, in small.
func TestRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	binary := buildListener(t)
	var progress strings.Builder
	path, err := Run(context.Background(), Options{
		Only:     []string{"drain", "webhook"},
		Quick:    true,
		NoPeers:  true,
		Out:      t.TempDir(),
		Listener: binary,
		Command:  "listener bench --quick",
		Stdout:   &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| command | `listener bench --quick` |",
		"other programs are left out: --no-peers",
		"| [drain](#drain) | listener / River, batch 1000 (aim 4) | ≥ 3x | – | not measured |",
		"| listener, batch 1000 | ",
		"-webhook.svg)",
		"So no figure is judged, only",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the report lacks %q:\n%s", want, b)
		}
	}
	pictures, err := filepath.Glob(strings.TrimSuffix(path, ".md") + "-*.svg")
	if err != nil || len(pictures) != 2 {
		t.Errorf("pictures: %v, %v", pictures, err)
	}
}

func TestUnknownScenario(t *testing.T) {
	t.Parallel()
	for part, want := range map[string]string{PartLong: "size steady retention snapshot slow stuck memory", "": strings.Join(Names(), " ")} {
		chosen, err := choose(nil, part)
		var names []string
		for _, s := range chosen {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("part %q: %s, %v; want %s", part, got, err, want)
		}
	}
	if _, err := choose(nil, "middle"); err == nil {
		t.Error("a part that is not there was chosen")
	}
	_, err := Run(context.Background(), Options{Only: []string{"speed"}})
	if err == nil || !strings.Contains(err.Error(), "--only speed: there is no such scenario; there are insert, drain,") {
		t.Errorf("Run = %v", err)
	}
}
