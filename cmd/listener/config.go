package main

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// problem is one thing that is wrong with the configuration.
type problem struct {
	name    string // of the variable
	value   string // as it may be shown, and where it was; "" for one that is not set
	reason  string
	accepts string
}

func (p problem) String() string {
	s := p.name + p.value + " " + p.reason
	if p.accepts != "" {
		s += "; accepted: " + strings.ReplaceAll(p.accepts, "`", "")
	}
	return s
}

// configError is everything that is wrong with the configuration.
type configError []problem

// Error lists the problems, one a line.
func (e configError) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// readConfig reads every variable. The config is as good as the values allow
// also where there are problems; those are in the order of the table.
func readConfig(s settings) (*config, configError) {
	c := new(config)
	var problems configError
	for i := range variables {
		v := &variables[i]
		f, err := s.find(v)
		if err != nil {
			problems = append(problems, problem{name: v.name, value: " (" + f.source + ")",
				reason: "cannot be read: " + oneLine(s.scrub(err.Error()))})
			continue
		}
		if f.value == "" {
			if v.required {
				problems = append(problems, problem{name: v.name, reason: "is not set", accepts: v.accepts})
			}
			continue
		}
		if err := v.set(c, f.value); err != nil {
			problems = append(problems, problem{v.name, s.show(v, f), oneLine(s.scrub(err.Error())), v.accepts})
		}
	}
	if c.StateDir == "" {
		// Several are separated by colons; the unit has one.
		c.StateDir, _, _ = strings.Cut(s.env["STATE_DIRECTORY"], ":")
	}
	return c, problems
}

// show is the value of v as an error may show it: nothing of a secret but its
// length.
func (s settings) show(v *variable, f found) string {
	source := f.source
	if f.file != "" {
		source += ", " + f.file
	}
	if v.secret {
		return fmt.Sprintf(" (set, %d characters; %s)", utf8.RuneCountInString(f.value), source)
	}
	return fmt.Sprintf("=%q (%s)", short100(s.scrub(f.value)), source)
}

// scrub takes secrets out of a text: those that the configuration has, which
// somebody may have put into the wrong variable too, and what looks like the
// password of a URL.
func (s settings) scrub(text string) string {
	for i := range variables {
		v := &variables[i]
		if !v.secret {
			continue
		}
		if f, err := s.find(v); err == nil && len(f.value) >= 4 {
			text = strings.ReplaceAll(text, f.value, "***")
		}
	}
	words := strings.Fields(text)
	for _, w := range words {
		if masked := maskURL(w); masked != w {
			text = strings.ReplaceAll(text, w, masked)
		}
	}
	return text
}

// maskURL is a URL without its passwords. Of what has credentials and is not
// a URL that can be read, nothing but the scheme is left.
func maskURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" && strings.Contains(rest, "@") {
		if !strings.ContainsAny(rest, "@?") {
			return s
		}
		return scheme + "://***"
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "***")
	}
	if q := u.Query(); q.Has("password") || q.Has("sslpassword") {
		for _, name := range []string{"password", "sslpassword"} {
			if q.Has(name) {
				q.Set(name, "***")
			}
		}
		u.RawQuery = q.Encode()
	}
	return strings.ReplaceAll(u.String(), "%2A%2A%2A", "***")
}

// shown is the value of v in lists: masked where it is secret. Of a database
// URL the rest is worth seeing.
func (v *variable) shown(value string) string {
	switch {
	case value == "" || !v.secret:
		return value
	case strings.HasSuffix(v.name, "DATABASE_URL") && (strings.HasPrefix(value, "postgres://") || strings.HasPrefix(value, "postgresql://")):
		if _, err := parseDatabase(dispatch.Secret(value), false); err == nil {
			return maskURL(value)
		}
	}
	return "***"
}

// oneLine is a message without line breaks and other control characters.
func oneLine(s string) string {
	return strings.Join(strings.Fields(printable(s)), " ")
}

// short100 cuts what is too long to be read.
func short100(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
