package main

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var envFileRefused = regexp.MustCompile(`^(is not UTF-8 text|line (\d+) is not of the form NAME=value)$`)

// FuzzEnvFile: a file is read, or refused by a line that it has and with nothing of it
// shown; a $ stands for itself, whatever is around it; and a line behind what can be
// read changes nothing before it.
func FuzzEnvFile(f *testing.F) {
	for _, seed := range []string{
		"\ufeff# ours\r\nOUTBOX_WORKERS=1\r\nOUTBOX_LEASE=1s # short\r\nexport OUTBOX_BATCH_SIZE='7'\r\n",
		"SMTP_PASS=\"a$b${c}\\n$$\"\nA='two\nlines'\n", "A: b\nc\n", "A=\"open\n", "=\n", "A=1\n\x00", "A='b' c\n", "A=\\$B\n", "A=b#c\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return // a line that is wrong is found by reading all before it again
		}
		got, err := parseEnvFile([]byte(text))
		if err != nil {
			line := 0
			said := envFileRefused.FindStringSubmatch(err.Error())
			if said == nil || got != nil {
				t.Fatalf("%q: %v, %v", text, got, err)
			}
			if said[2] != "" {
				if _, err := fmt.Sscan(said[2], &line); err != nil || line < 1 || line > strings.Count(text, "\n")+1 {
					t.Errorf("%q: line %s", text, said[2])
				}
			}
			return
		}
		for name, value := range got {
			if strings.Contains(name+value, "\x00") {
				t.Errorf("%q: %q is %q", text, name, value)
			}
		}
		const letter = "ſ" // a letter that means nothing to whoever reads the file
		if !strings.Contains(text, letter) {
			other, err := parseEnvFile([]byte(strings.ReplaceAll(text, "$", letter)))
			back := map[string]string{}
			for name, value := range other {
				back[strings.ReplaceAll(name, letter, "$")] = strings.ReplaceAll(value, letter, "$")
			}
			if err != nil || !maps.Equal(back, got) {
				t.Errorf("%q is %q, and %q (%v) with a letter in the place of each $", text, got, back, err)
			}
		}
		if more, err := parseEnvFile([]byte(text + "\nZZ_LAST=1\n")); err != nil || more["ZZ_LAST"] != "1" {
			t.Errorf("%q: with a line more %q, %v", text, more, err)
		}
	})
}

// FuzzConfig: whatever a variable is set to, each problem is one of a variable that
// there is, told in one line, and shows no secret: neither of those that are where they
// belong, nor of one that stands in the wrong place.
func FuzzConfig(f *testing.F) {
	for i, value := range []string{
		"postgres://u:PASS@h/db?sslmode=never", "postgres://u:PASS@[::1", "1e9", "-1", "90s", "99999999999999999999", "off", "+PASS",
		"PASS@example.com", "https://PASS@h/", "10/s", "US,PASS", "10.0.0.0/99", "whsec_PASS", "host:PASS", "\"PASS\"\n", "PASS\x00\u202e",
	} {
		f.Add(uint8(i), value)
		f.Add(uint8(i*7), value)
	}
	const pass = "canaryPASSWORD7"
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		v := &variables[int(which)%len(variables)]
		if v.name == "OUTBOX_ROUTES" || v.name == "OUTBOX_STATE_DIR" {
			return // files of this machine
		}
		ofDatabase := v.name == "DATABASE_URL" || v.name == "OUTBOX_LISTEN_DATABASE_URL"
		if v.secret && !ofDatabase {
			value += pass
		}
		value = strings.ReplaceAll(value, "PASS", pass)
		env := map[string]string{"DATABASE_URL": "postgres://u:" + pass + "@h/db", "SMTP_PASS": pass, v.name: value}
		_, problems := readConfig(settings{env: env})
		for _, p := range problems {
			text := p.String()
			switch {
			case strings.Contains(text, pass):
				t.Errorf("%s=%q shows %q", v.name, value, text)
			case strings.ContainsAny(text, "\r\n\x00"):
				t.Errorf("%s=%q: not one line: %q", v.name, value, text)
			case p.name != v.name:
				t.Errorf("%s=%q: a problem of %s: %q", v.name, value, p.name, text)
			}
		}
		if len(problems) > 0 && value == "" && v.name != "DATABASE_URL" {
			t.Errorf("%s, which is not set: %v", v.name, problems)
		}
		if shown := v.shown(value); v.secret && strings.Contains(shown, pass) && !(ofDatabase && strings.Contains(withoutPassword(value), pass)) {
			t.Errorf("%s=%q is shown as %q", v.name, value, shown)
		}
	})
}

// withoutPassword is a database URL without the places where a password belongs; what
// stands elsewhere, as the user or the host, may be shown. Of anything else nothing is
// left.
func withoutPassword(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return ""
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	q.Del("password")
	q.Del("sslpassword")
	u.RawQuery = q.Encode()
	return u.String()
}
