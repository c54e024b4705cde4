package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// writeReport writes the report and its pictures, and returns its path.
func writeReport(r *run, m machine, results []*result) (string, error) {
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	base, err := freeName(r.Out, m.date.Format("2006-01-02")+"-"+fileName(m.commit))
	if err != nil {
		return "", err
	}
	pictures := map[string]string{}
	for _, res := range results {
		bars := res.bars()
		if len(bars) == 0 {
			continue
		}
		name := base + "-" + res.name + ".svg"
		if err := os.WriteFile(filepath.Join(r.Out, name), []byte(plot(res.what, bars)), 0o644); err != nil {
			return "", err
		}
		pictures[res.name] = name
	}
	path := filepath.Join(r.Out, base+".md")
	return path, os.WriteFile(path, []byte(markdown(r, m, results, pictures)), 0o644)
}

// freeName returns base, or base-2, base-3 and so on: the first of which dir has
// no report yet. What was measured before is never overwritten.
func freeName(dir, base string) (string, error) {
	name := base
	for n := 2; ; n++ {
		_, err := os.Stat(filepath.Join(dir, name+".md"))
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("--out: %w", err)
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// fileName leaves of s what is safe in a file's name.
func fileName(s string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("/\\ :()", c) {
			return '-'
		}
		return c
	}, s)
}

func markdown(r *run, m machine, results []*result, pictures map[string]string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	at := m.commit
	if m.dirty {
		at += ", with uncommitted changes"
	}
	p("# Benchmark of %s\n", m.date.Format("2006-01-02"))
	if r.Quick {
		p("**Quick: sizes are about a twentieth. It shows that everything runs, not how fast: a percentile of a few dozen")
		p("claims is the slowest of them, and half a second of work is mostly its beginning. So no figure is judged, only")
		p("what must never happen.**\n")
	}
	p("| | |\n|---|---|")
	p("| commit | %s |", cell(at))
	p("| command | `%s` |", cell(r.Command))
	p("| machine | %s, %d cores, %s |", cell(m.cpu), m.cores, m.memory)
	p("| system | %s, %s |", cell(m.kernel), m.goes)
	p("| Postgres | %s |", cell(m.postgres))
	for _, peer := range r.peers {
		p("| %s | %s |", peer.name, cell(peer.version))
	}
	p("| load at the start | %s |", m.load)
	p("| rounds | %d |", r.Rounds)
	p("")
	p("Variants run in turn, round by round. A figure is the median of the rounds (least–most); a ratio is taken")
	p("within each round, and then its median (least–most). Everything, the receivers of webhooks and the other")
	p("programs too, shares this one machine.")
	for _, n := range r.notes {
		p("\n- %s", n)
	}
	p("\n## Targets\n")
	p("| scenario | what | wanted | measured | |\n|---|---|--:|--:|---|")
	for _, res := range results {
		for _, c := range res.checks {
			mark := c.mark()
			if mark == "not met" {
				mark = "**not met**"
			}
			p("| [%s](#%s) | %s | %s | %s | %s |", res.name, res.name, cell(c.what), c.wanted(), c.found(), mark)
		}
		switch {
		case res.err != nil:
			p("| [%s](#%s) | failed | | | **failed** |", res.name, res.name)
		case res.cannot != "":
			p("| [%s](#%s) | cannot be run here | | | not measured |", res.name, res.name)
		}
	}
	p("\n## How long it took\n")
	p("| scenario | |\n|---|--:|")
	for _, res := range results {
		p("| %s | %s |", res.name, res.took.Round(time.Second))
	}
	p("| all | %s |", total(results).Round(time.Second))
	for _, res := range results {
		p("\n## %s\n", res.name)
		p("%s. Took %s.\n", sentence(res.what), res.took.Round(time.Second))
		if res.cannot != "" {
			p("**Cannot be run here: %s**\n", res.cannot)
		}
		if name, ok := pictures[res.name]; ok {
			p("![%s](%s)\n", cell(res.what), name)
		}
		if len(res.figures) > 0 {
			p("| | median (least–most) | |\n|---|--:|---|")
			for _, f := range res.figures {
				p("| %s | %s | %s |", cell(f.label), spread(f.values), f.unit)
			}
			p("")
		}
		for _, n := range res.notes {
			p("- %s", n)
		}
		if res.err != nil {
			p("\n**Failed: %s**", strings.Join(strings.Fields(res.err.Error()), " "))
		}
	}
	return b.String()
}

// cell is s as it may stand in a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// table is the summary for a terminal.
func table(results []*result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, res := range results {
		for _, c := range res.checks {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", res.name, c.what, c.found(), c.wanted(), c.mark())
		}
		switch {
		case res.err != nil:
			fmt.Fprintf(w, "%s\tfailed\t\t\t%v\n", res.name, strings.Join(strings.Fields(res.err.Error()), " "))
		case res.cannot != "":
			fmt.Fprintf(w, "%s\tcannot be run here\t\t\t%s\n", res.name, res.cannot)
		}
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

// durations says how long each scenario took, on one line.
func durations(results []*result) string {
	parts := make([]string, len(results))
	for i, res := range results {
		parts[i] = fmt.Sprintf("%s %s", res.name, res.took.Round(time.Second))
	}
	return fmt.Sprintf("took %s: %s", total(results).Round(time.Second), strings.Join(parts, ", "))
}

func total(results []*result) (d time.Duration) {
	for _, res := range results {
		d += res.took
	}
	return d
}
