package routes

import (
	"fmt"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// moment is a time expression: now or the path of a value, with durations added
// or taken away.
type moment struct {
	source string
	path   []string // ["now"] for the database's clock
	shift  time.Duration
}

const momentSyntax = "it has to be now or the path of a time, with + or - durations behind it, as in: visit.start_at - 24h"

// moment compiles t; nil where t is not there or something is wrong with it.
func (c *compiler) moment(t text, n known) *moment {
	if t.node == nil {
		return nil
	}
	words := strings.Fields(strings.NewReplacer("+", " + ", "-", " - ").Replace(t.value))
	if len(words) == 0 || len(words)%2 == 0 {
		c.f.add(t.node, "the time %q is wrong: %s", shortened(t.value), momentSyntax)
		return nil
	}
	m := &moment{source: t.value, path: strings.Split(words[0], ".")}
	for _, key := range m.path {
		if !identifier.MatchString(key) {
			c.f.add(t.node, "the time %q is wrong: %s", shortened(t.value), momentSyntax)
			return nil
		}
	}
	for i := 1; i < len(words); i += 2 {
		d, ok := duration(words[i+1])
		switch {
		case words[i] != "+" && words[i] != "-":
			c.f.add(t.node, "the time %q is wrong: %s", shortened(t.value), momentSyntax)
			return nil
		case !ok || d > longestSpan:
			c.f.add(t.node, "the time %q is wrong: %q is no duration such as 90m, 24h or 2d", shortened(t.value), shortened(words[i+1]))
			return nil
		case words[i] == "-":
			d = -d
		}
		m.shift += d
	}
	if m.path[0] == "now" && len(m.path) == 1 {
		c.note("now")
		return m
	}
	if fault := n.fault(m.path); fault != "" {
		c.f.add(t.node, "%s", fault)
		return nil
	}
	if k := n[m.path[0]].kind; len(m.path) == 1 && k != anything || k == rows {
		c.f.add(t.node, "the time %q is wrong: %s is no time", shortened(t.value), m.path[0])
		return nil
	}
	c.note(m.path[0])
	c.use(t, 0, n, m.path)
	return m
}

// of returns the time; missing says why there is none.
func (m *moment) of(sc *scope) (at time.Time, missing string, err error) {
	if m.path[0] == "now" {
		return sc.now.Add(m.shift), "", nil
	}
	name := strings.Join(m.path, ".")
	if lacks := sc.lacking([][]string{m.path}); lacks != "" {
		return time.Time{}, "", fmt.Errorf("%s: %s", m.source, lacks)
	}
	v, ok := sc.at(m.path)
	if _, null := v.(render.Null); !ok || null || v == "" {
		return time.Time{}, name + " is missing or null", nil
	}
	at, err = render.Moment(v)
	if err != nil {
		return time.Time{}, "", fmt.Errorf("%s: %w", name, err)
	}
	return at.Add(m.shift), "", nil
}
