package failpoint_test

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestNothingIsLeft: the program as it is released has nothing of this package
// in it, and one that is built for the rig has. Both are built as they are, with
// their symbols.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tags string
		want bool
	}{
		{"", false},
		{"failpoint", true},
	} {
		if tt.want && runtime.GOOS == "windows" {
			continue
		}
		program := filepath.Join(t.TempDir(), "listener")
		build := exec.Command("go", "build", "-tags="+tt.tags, "-o", program, "github.com/outbox-listener/outbox-listener/cmd/listener")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		symbols, err := exec.Command("go", "tool", "nm", program).Output()
		if err != nil {
			t.Fatalf("go tool nm: %v", err)
		}
		if len(symbols) < 1000 {
			t.Fatalf("go tool nm: %s", symbols)
		}
		if got := strings.Contains(string(symbols), "internal/failpoint."); got != tt.want {
			t.Errorf("tags %q: symbols of failpoint in the program: %v, want %v", tt.tags, got, tt.want)
		}
	}
}
