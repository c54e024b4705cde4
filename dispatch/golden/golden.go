// Package golden tests routes by files: NAME.event.json has an event and what
// lookups, steps and the model answer, NAME.expected.json what becomes of it. It
// needs no database and no provider.
package golden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	udiff "github.com/aymanbagabas/go-udiff"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/preview"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/dispatch/sink"
)

// The ends of the files' names.
const (
	eventEnd    = ".event.json"
	expectedEnd = ".expected.json"
)

// Suite is a folder of tests for one routes file.
type Suite struct {
	Routes string // what problems call the routes file
	Source []byte // what it says
	Dir    string

	// Update has what comes of events written down as what is expected.
	Update bool
}

// Result is what came of one test.
type Result struct {
	Name       string // NAME, without a folder
	Deliveries int
	Refused    int      // how many of them would be dead at once
	Errors     []string // why the test could not be made, for people
	Missing    bool     // nothing is expected yet
	Diff       string   // unified, from what is expected to what came; "" where that is the same
	Wrote      bool     // what came is now what is expected
	Warnings   []string
}

// Failed reports whether something is wrong.
func (r Result) Failed() bool {
	return len(r.Errors) > 0 || !r.Wrote && (r.Missing || r.Diff != "")
}

// Run runs all tests, in the order of their names. Its error says why it could
// not; that of a routes file is a *routes.Problems.
func (s Suite) Run(ctx context.Context) ([]Result, error) {
	if _, err := routes.Load(s.Routes, s.Source, routes.Options{}); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s; make it, with an event in NAME%s", s.Dir, eventEnd)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Dir, cause(err))
	}
	var names, expected []string
	var strays []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue // what editors and systems leave there
		}
		if stray(e.Name()) {
			strays = append(strays, e.Name())
		}
		if name, ok := strings.CutSuffix(e.Name(), eventEnd); ok && name != "" {
			names = append(names, name)
		}
		if name, ok := strings.CutSuffix(e.Name(), expectedEnd); ok {
			expected = append(expected, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no files *%s", s.Dir, eventEnd)
	}
	var out []Result
	for _, name := range names {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		out = append(out, s.test(ctx, name))
	}
	for _, name := range expected {
		if !slices.Contains(names, name) {
			out = append(out, Result{Name: name, Errors: []string{
				fmt.Sprintf("%s is there, and no %s; remove it, or bring the event back", name+expectedEnd, name+eventEnd)}})
		}
	}
	for _, name := range strays {
		out = append(out, Result{Name: name, Errors: []string{
			fmt.Sprintf("its name ends neither in %s nor in %s, so that it tests nothing; rename it", eventEnd, expectedEnd)}})
	}
	return out, nil
}

// stray reports whether a file looks like one of ours and is none: a test that is
// never run would say for ever that all is well.
func stray(name string) bool {
	lower := strings.ToLower(name)
	if strings.HasSuffix(name, eventEnd) || strings.HasSuffix(name, expectedEnd) || !slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(lower)) {
		return false
	}
	return strings.Contains(lower, ".event") || strings.Contains(lower, ".expect")
}

func (s Suite) test(ctx context.Context, name string) (r Result) {
	r.Name = name
	fail := func(errs ...error) Result {
		for _, err := range errs {
			r.Errors = append(r.Errors, err.Error())
		}
		return r
	}
	path := filepath.Join(s.Dir, name+eventEnd)
	source, err := os.ReadFile(path)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", path, cause(err)))
	}
	given, problems := readEvent(path, source)
	if len(problems) > 0 {
		return fail(problems...)
	}
	p, warnings, err := s.make(ctx, given)
	r.Warnings = warnings
	if err != nil {
		return fail(fmt.Errorf("%s: %w", path, err))
	}
	r.Deliveries, r.Refused = len(p.Deliveries), p.Refused()
	got, err := p.JSON()
	if err != nil {
		return fail(err)
	}
	return s.compare(r, got)
}

// compare holds got against what is expected, and writes it where that is asked
// for.
func (s Suite) compare(r Result, got []byte) Result {
	path := filepath.Join(s.Dir, r.Name+expectedEnd)
	want, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Missing = true
	case err != nil:
		r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", path, cause(err)))
		return r
	}
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")) // as Git checks it out on Windows
	if !r.Missing {
		r.Diff = udiff.Unified(path, "what becomes of "+r.Name+eventEnd, string(want), string(got))
	}
	if s.Update && (r.Missing || r.Diff != "") {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", path, cause(err)))
			return r
		}
		r.Wrote = true
	}
	return r
}

// channels are all that routes and direct events deliver on. None of them is
// sent on here; without a sender their deliveries would be skipped.
var channels = []dispatch.Channel{
	dispatch.ChannelSMS, dispatch.ChannelEmail, dispatch.ChannelWebhook, dispatch.ChannelHTTP,
	dispatch.ChannelOpenAI, dispatch.ChannelLog, dispatch.ChannelDiscard,
}

// make says what becomes of an event in the world of its file.
func (s Suite) make(ctx context.Context, g *given) (*preview.Preview, []string, error) {
	r, err := routes.Load(s.Routes, s.Source, routes.Options{Env: func(name string) (string, bool) {
		v, ok := g.env[name]
		return v, ok
	}})
	if err != nil {
		return nil, nil, err
	}
	w := &world{given: g}
	clock := &preview.Clock{Facts: w}
	d := dispatch.New()
	for _, ch := range channels {
		d.Register(ch, sink.NewDiscard(), dispatch.Policy{})
	}
	d.Use(routes.NewRouter(r, clock, w))
	p, err := preview.Of(ctx, d, g.event, preview.Options{Answers: g.answers})
	if err != nil {
		if m, ok := errors.AsType[*missing](err); ok {
			err = m
		}
		return nil, nil, err
	}
	p.Now = clock.Saw
	return p, w.warnings(r, p), nil
}

// warnings name what the file has and nobody asked for.
func (w *world) warnings(r *routes.Routes, p *preview.Preview) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.env)) {
		if !slices.Contains(r.Variables(), name) {
			out = append(out, fmt.Sprintf("env has %s, which expose_env does not have", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.lookups)) {
		if !w.used["lookup "+name] {
			out = append(out, fmt.Sprintf("lookups has rows for %s, which was not asked for", name))
		}
	}
	for _, name := range p.Unused() {
		out = append(out, fmt.Sprintf("answers has one for %s, which no step waited for", name))
	}
	for _, name := range slices.Sorted(maps.Keys(w.copy)) {
		if !w.used["copy "+name] {
			out = append(out, fmt.Sprintf("copy has words for %s, which were not asked for", name))
		}
	}
	return out
}

// cause is why an operation on a file failed, without its path.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
