package bench

import (
	"fmt"
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
	base := m.date.Format("2006-01-02") + "-" + fileName(m.commit)
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
		p("**Quick: sizes are a twentieth. It shows that everything runs, not how fast.**\n")
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
	p("| scenario | measured | | target | |\n|---|---|--:|---|---|")
	for _, res := range results {
		for _, c := range res.checks {
			mark := c.mark()
			if mark == "not met" {
				mark = "**not met**"
			}
			p("| [%s](#%s) | %s | %s | %s | %s |", res.name, res.name, cell(c.what), c.found(), c.wanted(), mark)
		}
		if res.err != nil {
			p("| [%s](#%s) | failed | | | **failed** |", res.name, res.name)
		}
	}
	for _, res := range results {
		p("\n## %s\n", res.name)
		p("%s. Took %s.\n", sentence(res.what), res.took.Round(time.Second))
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
		if res.err != nil {
			fmt.Fprintf(w, "%s\tfailed\t\t\t%v\n", res.name, strings.Join(strings.Fields(res.err.Error()), " "))
		}
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}
