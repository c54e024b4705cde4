package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/shop anew")

// shop is the suite of testdata, or a copy of it that a test may change.
func shop(t *testing.T, change bool) Suite {
	t.Helper()
	source, err := os.ReadFile("testdata/shop/routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := Suite{Routes: "routes.yaml", Source: source, Dir: "testdata/shop/routes_test"}
	if change {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(s.Dir)); err != nil {
			t.Fatal(err)
		}
		s.Dir = dir
	}
	return s
}

func run(t *testing.T, s Suite) map[string]Result {
	t.Helper()
	all, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Result{}
	for _, r := range all {
		out[r.Name] = r
	}
	return out
}

// TestShop holds every channel, and each way in which nothing is sent, against
// what testdata has. What it has was read by a person.
func TestShop(t *testing.T) {
	s := shop(t, false)
	s.Update = *update
	for name, r := range run(t, s) {
		if r.Failed() || r.Wrote || len(r.Warnings) > 0 {
			t.Errorf("%s: %+v\n%s", name, r, r.Diff)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUpdate(t *testing.T) {
	s := shop(t, true)
	path := func(name string) string { return filepath.Join(s.Dir, name+expectedEnd) }
	was := read(t, path("direct"))
	write(t, path("direct"), strings.Replace(was, "tomorrow", "today", 1))
	write(t, path("log"), strings.ReplaceAll(read(t, path("log")), "\n", "\r\n"))
	if err := os.Remove(path("refused")); err != nil {
		t.Fatal(err)
	}
	got := run(t, s)
	if r := got["direct"]; !r.Failed() || !strings.Contains(r.Diff, "\n-          \"€ today\",\n+          \"€ tomorrow\",\n") {
		t.Errorf("changed: %+v", r)
	}
	if r := got["refused"]; !r.Failed() || !r.Missing || r.Diff != "" {
		t.Errorf("missing: %+v", r)
	}
	if r := got["log"]; r.Failed() {
		t.Errorf("line ends of Windows: %+v", r)
	}
	if _, err := os.Stat(path("refused")); err == nil {
		t.Error("it was written, and nobody asked for it")
	}
	s.Update = true
	for name, r := range run(t, s) {
		if want := name == "direct" || name == "refused"; r.Wrote != want || r.Failed() {
			t.Errorf("update: %+v", r)
		}
	}
	if read(t, path("direct")) != was {
		t.Error("not what it was before")
	}
	s.Update = false
	for _, r := range run(t, s) {
		if r.Failed() {
			t.Errorf("after the update: %+v", r)
		}
	}
}

func TestEventFiles(t *testing.T) {
	const order = `"order": {"id": 1, "total": 1, "phone": "2025550123", "email": "a@example.com", "name": "A", "pickup_at": "2026-02-01T00:00:00Z"}`
	for _, tt := range []struct {
		name, text string
		errors     []string
		warnings   []string
	}{
		{"no JSON", "{\n  \"type\": x}", []string{`x.event.json:2:11: it is not JSON: invalid character 'x'`}, nil},
		{"cut off", `{"type": "a"`, []string{"it is not JSON: unexpected end"}, nil},
		{"a list", `[]`, []string{`x.event.json:1:1: it has to be an object with the keys type, payload, id,`}, nil},
		{"unknown keys", "{\"type\": \"a\", \"payload\": {},\n \"é\": 1, \"lookup\": {}}", []string{
			`x.event.json:2:2: unknown key "é"; accepted are type, payload, id, created_at, now, env, lookups, answers, copy`,
			`x.event.json:2:10: unknown key "lookup"`}, nil},
		{"twice", `{"type": "a", "payload": {}, "type": "b"}`, []string{`x.event.json:1:30: the key "type" is there twice`}, nil},
		{"nothing", `{}`, []string{`the key "type" is missing`, `the key "payload" is missing`}, nil},
		{"wrong values", `{"type": 1, "payload": 1, "id": "7", "created_at": "yesterday", "now": 5, "env": {"A": 1}, "lookups": [], "answers": {"a": 1}, "copy": null}`, []string{
			`x.event.json:1:10: "type" has to be a text`, `"id" has to be a uuid`, `"created_at" has to be a time such as`, `"now" has to be a time`,
			`"env" has to be an object of texts`, `"lookups" has to be an object that has rows`, `"answers" is wrong: the answer of "a" has to be an object`, `"copy" has to be an object of texts`}, nil},
		{"no rows", `{"type": "a", "payload": {}, "lookups": {"a": 1}}`, []string{`"lookups" has something else than rows for "a"`}, nil},
		{"a list of no rows", `{"type": "a", "payload": {}, "lookups": {"a": [{}, null]}}`, []string{`"lookups" has something in the list "a" that is no row`}, nil},
		{"a null text", `{"type": "a", "payload": {}, "env": {"SITE_URL": null}}`, []string{`"env" has null for "SITE_URL"; it has to be a text`}, nil},
		{"a lookup without rows", `{"type": "order.paid", "payload": {"orderId": 1}, "lookups": {` + order + `}}`, []string{
			`x.event.json: the lookup staff of the route order-paid is asked for, and "lookups" has no rows for it; add "staff" (or "order-paid.staff")`}, nil},
		{"what nobody asked for", `{"type": "order.canceled", "payload": {"orderId": 1}, "env": {"HOME": "/"}, "lookups": {"a": {}}, "answers": {"b": {}}, "copy": {"c": "d"}}`, nil, []string{
			"env has HOME, which expose_env does not have", "lookups has rows for a, which was not asked for",
			"answers has one for b, which no step waited for", "copy has words for c, which were not asked for"}},
		{"a byte order mark", "\ufeff" + `{"type": "order.canceled", "payload": {"orderId": 1}}`, nil, nil},
		{"more than one row", `{"type": "order.paid", "payload": {"orderId": 1}, "lookups": {"order": [{"id": 1}, {"id": 2}, {"id": 3}]}}`, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := shop(t, false)
			s.Dir, s.Update = t.TempDir(), true
			write(t, filepath.Join(s.Dir, "x"+eventEnd), tt.text)
			r := run(t, s)["x"]
			for i, want := range tt.errors {
				if i >= len(r.Errors) || !strings.Contains(r.Errors[i], want) {
					t.Errorf("%q, want %q", r.Errors, want)
				}
			}
			if len(r.Errors) != len(tt.errors) || !slices.Equal(r.Warnings, tt.warnings) {
				t.Errorf("errors %q, warnings %q", r.Errors, r.Warnings)
			}
			if _, err := os.Stat(filepath.Join(s.Dir, "x"+expectedEnd)); (err == nil) != (len(tt.errors) == 0) || r.Failed() != (err != nil) {
				t.Errorf("written: %v; failed: %v", err, r.Failed())
			}
		})
	}
}

func TestCannot(t *testing.T) {
	empty := t.TempDir()
	for _, tt := range []struct {
		name, source, dir, want string
	}{
		{"wrong routes", "version: 2\nroutes: []\n", empty, "routes.yaml:1:"},
		{"no folder", "", filepath.Join(empty, "x"), "make it, with an event in NAME.event.json"},
		{"no tests", "", empty, "has no files *.event.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := shop(t, false)
			if s.Dir = tt.dir; tt.source != "" {
				s.Source = []byte(tt.source)
			}
			if _, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A test whose name is misspelt would never be run; what an editor or a system has
// left is none.
func TestStrays(t *testing.T) {
	s := shop(t, true)
	for _, name := range []string{"x.events.json", "x.Event.json", "x.event.yaml", "x.expect.json", ".#log.event.json", "._log.event.json", "log.event.json~", "payload.json"} {
		write(t, filepath.Join(s.Dir, name), "?")
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "folder.event.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, r := range run(t, s) {
		if r.Failed() {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if want := []string{"x.Event.json", "x.event.yaml", "x.events.json", "x.expect.json"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Expected files whose events are gone would say for ever that all is well.
func TestExpectedWithoutEvent(t *testing.T) {
	s := shop(t, true)
	if err := os.Remove(filepath.Join(s.Dir, "log"+eventEnd)); err != nil {
		t.Fatal(err)
	}
	if r := run(t, s)["log"]; !r.Failed() || !strings.Contains(r.Errors[0], "log.expected.json is there, and no log.event.json") {
		t.Errorf("%+v", r)
	}
}
