package bench

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNodeTooOld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		engines string
		version string
		want    string
	}{
		{"older", ">=22.18.0", "v20.20.2", "queue declares Node >=22.18.0, it has v20.20.2"},
		{"older by its second number", ">=22.18.0", "v22.9.1", "queue declares Node >=22.18.0, it has v22.9.1"},
		{"the least that will do", ">= 22.18", "v22.18.0", ""},
		{"newer", ">=22.18.0", "v24.21.0", ""},
		{"newer, though not letter by letter", ">=9", "v20.0.0", ""},
		{"no word of it", "", "v20.20.2", ""},
		{"a form that is not looked at", "^20.19.0 || >=22.12.0", "v18.0.0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "package.json"), `{"dependencies": {"queue": "1.0.0"}}`)
			write(t, filepath.Join(dir, "node_modules", "queue", "package.json"), `{"engines": {"node": "`+tt.engines+`"}}`)
			got, err := nodeTooOld(dir, tt.version)
			if err != nil || got != tt.want {
				t.Errorf("nodeTooOld = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
