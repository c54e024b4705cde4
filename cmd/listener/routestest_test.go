package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRoutesTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, testsFolder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "routes.yaml", "version: 1\nroutes:\n  - {name: plain, event: plain, deliver: [{name: told, log: {text: '{{.payload.text}}'}}]}\n")
	put(t, folder, "a.event.json", `{"type": "plain", "payload": {"text": "one"}, "lookups": {"x": null}}`)
	put(t, folder, "b.event.json", `{"type": "plain", "payload": {"text": "two"}, "lookup": {}}`)
	in := map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "routes.yaml"), "OUTBOX_WORKERS": "not looked at"}

	got := call(t, in, "routes", "test")
	for _, want := range []string{
		"FAIL  a (1 delivery)\n", "      warning: lookups has rows for x, which was not asked for\n", "there is no a.expected.json; --update writes it",
		"FAIL  b\n      ", `b.event.json:1:47: unknown key "lookup"`, "\n0 tests as expected, 2 not; --update",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
	if got.code != exitFailures || got.stderr != "" {
		t.Errorf("exit code %d, stderr %s", got.code, got.stderr)
	}
	put(t, folder, "b.event.json", `{"type": "plain", "payload": {"text": "two"}}`)
	if got := call(t, in, "routes", "test", "--update"); got.code != exitOK || !strings.Contains(got.stdout, "wrote b (1 delivery)\n2 tests as expected\n") {
		t.Errorf("update: %d: %s%s", got.code, got.stdout, got.stderr)
	}
	// By the folder alone, the routes file is the one beside it.
	if got := call(t, nil, "routes", "test", folder); got.code != exitOK || !strings.Contains(got.stdout, "ok    a (1 delivery)\n") {
		t.Errorf("by folder: %d: %s%s", got.code, got.stdout, got.stderr)
	}
	put(t, folder, "b.event.json", `{"type": "plain", "payload": {"text": "three"}}`)
	if got := call(t, in, "routes", "test"); got.code != exitFailures || !strings.Contains(got.stdout, "-        \"text\": \"two\"\n+        \"text\": \"three\"\n") {
		t.Errorf("changed: %d: %s", got.code, got.stdout)
	}

	put(t, folder, "b.event.json", `{"type": "plain", "payload": {"text": "\u009b31mthree\u202e"}}`)
	if got := call(t, in, "routes", "test"); got.code != exitFailures || strings.ContainsAny(got.stdout, "\u009b\u202e") || !strings.Contains(got.stdout, "31mthree") {
		t.Errorf("what moves the cursor: %d: %q", got.code, got.stdout)
	}
	put(t, folder, "b.event.json", `{"type": "plain", "payload": {}}`)
	if got := call(t, in, "routes", "test", "--update"); got.code != exitOK || !strings.Contains(got.stdout, "wrote b (1 delivery, 1 refused)\n") {
		t.Errorf("refused: %d: %s", got.code, got.stdout)
	}

	put(t, dir, "wrong.yaml", "version: 1\nroutes:\n  - {name: plain, event: plain, deliver: [{name: told, log: {txt: a}}]}\n")
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		want string
	}{
		{"wrong routes", map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "wrong.yaml")}, []string{folder}, exitCannot, "wrong.yaml:3:"},
		{"no routes", map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "nowhere.yaml")}, nil, exitCannot, "OUTBOX_ROUTES="},
		{"no routes by default", nil, nil, exitCannot, "there is no routes file"},
		{"no folder", in, []string{filepath.Join(dir, "nowhere")}, exitCannot, "nowhere; make it, with an event in NAME.event.json"},
		{"no tests", in, []string{dir}, exitCannot, "has no files *.event.json"},
		{"no flag", in, []string{"--write"}, exitUsage, "unknown flag --write"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := call(t, tt.env, append([]string{"routes", "test"}, tt.args...)...); got.code != tt.code || !strings.Contains(got.stderr, tt.want) || got.stdout != "" {
				t.Errorf("exit code %d, want %d: %s%s", got.code, tt.code, got.stdout, got.stderr)
			}
		})
	}
}
