package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/joho/godotenv"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// defaultEnvFile is read from the working directory when it is there. It is
// the application's own file as much as ours.
const defaultEnvFile = ".env"

// settings is what the process was given by name: its environment, and under
// it the values of an environment file.
type settings struct {
	env  map[string]string
	file map[string]string
	path string // of the environment file; "" when there is none

	named string // the file that was asked for; "" means defaultEnvFile, if it is there
}

// readSettings takes environ, in the form of os.Environ, and the file at
// path. "" means .env, which may be missing; a named file must exist.
func readSettings(environ []string, path string) (settings, error) {
	s := settings{env: map[string]string{}, named: path}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name) // names have no case there
		}
		s.env[name] = value
	}
	return s.again()
}

// again returns s with the environment file as it is now.
func (s settings) again() (settings, error) {
	s.file, s.path = nil, ""
	path := s.named
	if path == "" {
		path = defaultEnvFile
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return s, nil // a Python environment, say
		}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && s.named == "" {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("environment file: %w", err) // names the path
	}
	if s.file, err = parseEnvFile(text); err != nil {
		return s, fmt.Errorf("environment file %s: %w", path, err)
	}
	s.path = path
	return s, nil
}

// parseEnvFile reads lines of NAME=value. A $ stands for itself, as it does
// for Node and for systemd: a password may have one. Errors show nothing of
// the file, which is full of secrets, but the line.
func parseEnvFile(text []byte) (map[string]string, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // left by editors on Windows
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("is not UTF-8 text")
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n') // without it godotenv takes a name that has no = behind it for nothing
	}
	const dollar = "\x00" // godotenv would put other variables in place of $NAME
	protected := bytes.ReplaceAll(text, []byte("$"), []byte(dollar))
	values, err := godotenv.UnmarshalBytes(protected)
	if err != nil {
		return nil, fmt.Errorf("line %d is not of the form NAME=value", brokenLine(protected))
	}
	for name, value := range values {
		values[name] = strings.ReplaceAll(value, dollar, "$")
	}
	return values, nil
}

// brokenLine finds the line at which text stops to be readable: the first one
// that no continuation mends. A quoted value may go over many lines.
func brokenLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	good := 0
	for end := range lines {
		if _, err := godotenv.UnmarshalBytes(bytes.Join(lines[:end+1], nil)); err == nil {
			good = end + 1
		}
	}
	return good + 1
}

// found is a value and where it was.
type found struct {
	value  string
	source string // "environment", the name of the environment file, or "default"
	file   string // the file that NAME_FILE names; "" when the value stood there itself
}

// find looks up v: in the environment, then in the environment file, then in
// the table. Where a name is set at all, also to nothing, the places after it
// are not asked. Secrets may be given as NAME_FILE in either place.
func (s settings) find(v *variable) (found, error) {
	for _, place := range []struct {
		values map[string]string
		name   string
	}{{s.env, "environment"}, {s.file, s.path}} {
		value, ok := place.values[v.name]
		value = tidy(value, v.secret)
		path, okFile := "", false
		if v.secret {
			path, okFile = place.values[v.name+"_FILE"]
		}
		switch {
		case okFile && path != "" && value != "":
			return found{source: place.name}, fmt.Errorf("%s and %s_FILE are both set; needed is one of them", v.name, v.name)
		case okFile && path != "":
			text, err := os.ReadFile(path)
			if err != nil {
				return found{source: place.name, file: path}, fmt.Errorf("%s_FILE: %w", v.name, err)
			}
			value = tidy(string(text), true)
			if value == "" {
				return found{source: place.name, file: path}, fmt.Errorf("%s_FILE: %s is empty", v.name, path)
			}
			return found{value, place.name, path}, nil
		case ok && value != "":
			return found{value, place.name, ""}, nil
		case ok || okFile:
			return found{v.def, "default", ""}, nil
		}
	}
	return found{v.def, "default", ""}, nil
}

// tidy takes away what does not belong to a value: blanks around it, but from
// a secret only the end of the line.
func tidy(value string, secret bool) string {
	if trimmed := strings.TrimSpace(value); !secret || trimmed == "" {
		return trimmed
	}
	return strings.TrimRight(value, "\r\n")
}

// misspelling is a name that is none of ours but looks like one.
type misspelling struct{ name, meant string }

// misspelled returns the names that look like misspellings of ours, but for those
// that are somebody else's.
func (s settings) misspelled(others ...string) []misspelling {
	known := map[string]bool{}
	for _, name := range others {
		known[name], known[name+"_FILE"] = true, true
	}
	for i := range variables {
		known[variables[i].name] = true
		if variables[i].secret {
			known[variables[i].name+"_FILE"] = true
		}
	}
	var list []misspelling
	for _, values := range []map[string]string{s.env, s.file} {
		for name := range values {
			if known[name] || !strings.HasPrefix(name, "OUTBOX_") {
				continue
			}
			if want := nearest(name); want != "" {
				list = append(list, misspelling{name, want})
				known[name] = true
			}
		}
	}
	slices.SortFunc(list, func(a, b misspelling) int { return strings.Compare(a.name, b.name) })
	return list
}

// nearest returns the variable that name is probably meant to be, or "".
func nearest(name string) string {
	best, least := "", 3
	for i := range variables {
		ours := variables[i].name
		if !strings.HasPrefix(ours, "OUTBOX_") {
			continue
		}
		d := distance(name, ours)
		if d >= least && (strings.HasPrefix(name, ours+"_") || strings.HasPrefix(ours, name+"_")) {
			d = 2 // a unit too many or too few
		}
		if d < least {
			best, least = ours, d
		}
	}
	return best
}

// distance is how many letters have to be changed, added, taken away or swapped with their
// neighbour to make b of a.
func distance(a, b string) int { return render.Distance([]rune(a), []rune(b)) }
