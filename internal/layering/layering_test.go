// Package layering holds the one rule about imports: they go one way.
package layering

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/outbox-listener/outbox-listener/"

// allowed says, for each package of ours, which others of ours it may import.
// A name that ends in a slash stands for everything below it. Tests may
// import more.
var allowed = []struct {
	pkg     string
	imports []string
}{
	{"sql", nil},
	{"dispatch", nil},
	{"dispatch/httpsend", []string{"dispatch", "internal/failpoint"}},
	{"dispatch/sendertest", []string{"dispatch"}},
	{"dispatch/country", nil},
	{"dispatch/query", []string{"dispatch"}},
	{"dispatch/plaintext", nil},
	{"dispatch/smtp", []string{"dispatch", "dispatch/plaintext", "internal/failpoint"}},
	{"dispatch/routes", []string{"dispatch", "dispatch/calendar", "dispatch/httpcall", "dispatch/openai", "dispatch/plaintext", "dispatch/query", "dispatch/render"}},
	{"dispatch/preview", []string{"dispatch", "dispatch/calendar", "dispatch/openai", "dispatch/plaintext", "dispatch/routes"}},
	{"dispatch/golden", []string{"dispatch", "dispatch/openai", "dispatch/preview", "dispatch/routes", "dispatch/sink"}},
	{"dispatch/openai", []string{"dispatch", "dispatch/httpsend", "internal/failpoint"}},
	{"dispatch/", []string{"dispatch", "dispatch/httpsend"}},
	{"migrations", []string{"sql", "internal/failpoint"}},
	{"listener/admin", []string{"listener", "listener/operate", "dispatch"}},
	{"listener/operate", []string{"listener", "dispatch", "sql"}},
	{"listener", []string{"dispatch", "sql", "internal/failpoint"}},
	{"bench", []string{"dispatch", "dispatch/sink", "listener", "sql", "migrations", "internal/devpg"}},
	{"examples", nil}, // tests
	{"examples/", nil},
	{"internal/devpg", nil},
	{"internal/evidence", nil},
	{"internal/pgtest", []string{"internal/devpg", "migrations"}},
	{"internal/model", []string{"dispatch"}},
	{"internal/standin", []string{"dispatch"}},
	{"internal/faultrig", []string{"internal/devpg", "internal/standin"}}, // the listener is a process to it
	{"internal/", nil},
	{"cmd/listener", []string{"cmd/", "dispatch", "dispatch/", "listener", "listener/", "migrations", "sql", "bench", "internal/devpg", "internal/standin"}},
}

// elsewhere are packages that only the named ones may import.
var elsewhere = map[string][]string{
	"github.com/twilio/twilio-go":   nil, // its root takes minutes to build; use the subpackages
	"github.com/twilio/":            {"dispatch/twilio"},
	"github.com/wneessen/go-mail":   {"dispatch/smtp"},
	"github.com/jackc/pgxlisten":    {"listener"},
	"github.com/fergusstrange/":     {"internal/devpg"},
	"github.com/emersion/":          {"internal/standin"},
	"github.com/alecthomas/kong":    {"cmd/listener"},
	"github.com/jackc/pgx/v5":       {"dispatch/query", "listener", "listener/operate", "migrations", "cmd/listener", "bench", "internal/devpg", "internal/pgtest", "internal/faultrig", "examples/inserts/go"},
	"github.com/lmittmann/tint":     {"cmd/listener"},
	"github.com/goccy/go-yaml":      {"dispatch/routes"},
	"github.com/expr-lang/expr":     {"dispatch/routes"},
	"github.com/sashabaranov/":      {"dispatch/openai"},
	"github.com/sony/":              {"dispatch/openai"},
	"github.com/nyaruka/":           {"dispatch/country", "dispatch/render"},
	"golang.org/x/net/":             {"dispatch/plaintext"},
	"github.com/aymanbagabas/":      {"dispatch/golden"},
	"golang.org/x/oauth2":           {"dispatch/httpcall"},
	"golang.org/x/oauth2/":          {"dispatch/httpcall"},
	"github.com/standard-webhooks/": nil,
	"github.com/arran4/":            nil, // it writes line breaks through
	"code.dny.dev/ssrf":             {"dispatch/httpsend"},
	"github.com/santhosh-tekuri/":   nil,
	"github.com/coreos/go-systemd/": {"cmd/listener"},
}

func matches(pattern, name string) bool {
	return pattern == name || strings.HasSuffix(pattern, "/") && strings.HasPrefix(name, pattern)
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(p.ImportPath, module)
		rule := slices.IndexFunc(allowed, func(a struct {
			pkg     string
			imports []string
		}) bool {
			return matches(a.pkg, name)
		})
		if rule < 0 {
			t.Errorf("%s has no row in the table: say what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module); ok {
				if !slices.ContainsFunc(allowed[rule].imports, func(a string) bool { return matches(a, ours) }) {
					t.Errorf("%s imports %s, against the direction of imports", name, ours)
				}
				continue
			}
			for pattern, by := range elsewhere {
				if matches(pattern, imp) && !slices.Contains(by, name) {
					t.Errorf("%s imports %s, which belongs to %v", name, imp, by)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages seen", seen)
	}
}
