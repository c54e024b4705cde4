package bench

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample is a result with one of everything.
func sample() *result {
	res := &result{name: "drain", what: "a backlog", progress: func(string, ...any) {}, took: 3 * time.Second}
	for _, v := range []float64{3000, 1000, 2000} {
		res.add(ours+", batch 10", "events/s", v)
	}
	res.add("River", "events/s", 500)
	res.detail("memory", "MB", 12)
	res.atLeast("listener / River", "x", 3, []float64{6, 2, 4})
	res.atMost("memory", "MB", 10, []float64{12})
	res.atLeast("listener / pg-boss", "x", 2, nil)
	res.note("how it was done")
	res.note("how it was done")
	return res
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	r := &run{Options: Options{Rounds: 3, Command: "listener bench"}, notes: []string{"pg-boss is left out"}}
	m := machine{date: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), commit: "abc", dirty: true, cpu: "a|b", cores: 2}
	failed := &result{name: "wake", what: "wake-ups", err: errors.New("one\ntwo")}
	cannot := &result{name: "wal", what: "bytes", cannot: "it is not ours"}
	got := markdown(r, m, []*result{sample(), failed, cannot}, map[string]string{"drain": "x.svg"})
	for _, want := range []string{
		"| commit | abc, with uncommitted changes |",
		"| machine | a\\|b, 2 cores,",
		"- pg-boss is left out",
		"| [drain](#drain) | listener / River | ≥ 3x | 4 (2–6)x | met |",
		"| [drain](#drain) | memory | ≤ 10 MB | 12 MB | **not met** |",
		"| [drain](#drain) | listener / pg-boss | ≥ 2x | – | not measured |",
		"| [wake](#wake) | failed |",
		"![a backlog](x.svg)",
		"| listener, batch 10 | 2,000 (1,000–3,000) | events/s |",
		"**Failed: one two**",
		"| [wal](#wal) | cannot be run here | | | not measured |",
		"**Cannot be run here: it is not ours**",
		"| drain | 3s |\n| wake | 0s |\n| wal | 0s |\n| all | 3s |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
	if strings.Count(got, "how it was done") != 1 {
		t.Errorf("a note stands there twice:\n%s", got)
	}
	if strings.Contains(got, "Quick") {
		t.Errorf("a full run calls itself quick:\n%s", got)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	for load, want := range map[string]bool{"0.47, 0.97, 1.84": false, "1.30, 2.78, 2.67": true, "unknown": false} {
		if got := (machine{load: load, cores: 2}).busy(); got != want {
			t.Errorf("load %s: busy %t, want %t", load, got, want)
		}
	}
}

func TestSmallRun(t *testing.T) {
	t.Parallel()
	res := &result{small: true}
	res.atLeast("rate", "x", 3, []float64{1})
	res.never("lost", []float64{0, 1})
	for i, want := range []string{"not judged", "not met"} {
		if got := res.checks[i].mark(); got != want {
			t.Errorf("%s: %s, want %s", res.checks[i].what, got, want)
		}
	}
}

func TestFreeName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, want := range []string{"a", "a-2", "a-3"} {
		got, err := freeName(dir, "a")
		if err != nil || got != want {
			t.Fatalf("freeName = %q, %v; want %q", got, err, want)
		}
		if err := os.WriteFile(filepath.Join(dir, got+".md"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	want := strings.TrimSpace(`
drain  listener / River    4 (2–6)x  ≥ 3x     met
drain  memory              12 MB     ≤ 10 MB  not met
drain  listener / pg-boss  –         ≥ 2x     not measured`)
	if got := table([]*result{sample()}); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}
