package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpcall"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/listener"
)

// defaultRoutes is read from the working directory when it is there.
const defaultRoutes = "routes.yaml"

// lookupConns is how many lookups run at once. They have connections of their own:
// one that takes its time does not keep claims, records and leases waiting.
const lookupConns = 4

// routesPath is the routes file that c means, "" where there is none.
func routesPath(c *config) string {
	if c.Routes != "" {
		return c.Routes
	}
	if _, err := os.Stat(defaultRoutes); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return defaultRoutes
}

// ruleset is a routes file that was found good, with what it names.
type ruleset struct {
	*routes.Routes
	path        string
	credentials map[string]httpcall.Credential
}

// findRoutes reads the routes file that c means; nil where there is none, or where
// problems say already that it is not there.
func findRoutes(c *config, problems configError, s settings) (*ruleset, error) {
	path := foundRoutes(c, problems)
	if path == "" {
		return nil, nil
	}
	return readRoutes(path, s)
}

// foundRoutes is routesPath, and "" too where problems say that the file is not there.
func foundRoutes(c *config, problems configError) string {
	if slices.ContainsFunc(problems, func(p problem) bool { return p.name == "OUTBOX_ROUTES" }) {
		return ""
	}
	return routesPath(c)
}

// readRoutes reads the routes file at path, and from s what it names. Its error has
// a line for each problem, and never a secret.
func readRoutes(path string, s settings) (*ruleset, error) {
	r, err := loadRoutes(path, s)
	if err != nil {
		return nil, err
	}
	credentials, err := readCredentials(r, path, s)
	if err != nil {
		return nil, err
	}
	return &ruleset{r, path, credentials}, nil
}

func loadRoutes(path string, s settings) (*routes.Routes, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read: %w", path, lastError(err))
	}
	return routes.Load(path, source, routes.Options{Env: func(name string) (string, bool) {
		f, err := s.find(&variable{name: name})
		return f.value, err == nil && f.value != ""
	}})
}

// readCredentials reads the variables that the credentials of r name. What is
// wrong with a file that NAME_FILE names is said too.
func readCredentials(r *routes.Routes, path string, s settings) (map[string]httpcall.Credential, error) {
	var unread []error
	all, err := r.Credentials(path, routes.Options{Env: func(name string) (string, bool) {
		f, err := s.find(&variable{name: name, secret: true})
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: %s", path, oneLine(s.scrub(err.Error()))))
		}
		return f.value, err == nil && f.value != ""
	}})
	problems := append([]error{err}, unread...)
	if err == nil {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := all[name].Validate(name); err != nil {
				at := credentialPlace(r, name)
				problems = append(problems, fmt.Errorf("%s:%d:%d: %w", path, at.Line, at.Column, err))
			}
		}
	}
	return all, errors.Join(problems...)
}

// credentialPlace is where r has the credential name.
func credentialPlace(r *routes.Routes, name string) routes.Place {
	for _, use := range r.CredentialUses() {
		if use.Name == name {
			return use.Place
		}
	}
	return routes.Place{}
}

// problemLines are the problems in an error of readRoutes, one each, as they may be
// shown.
func problemLines(err error) []string {
	var lines []string
	for _, line := range strings.Split(err.Error(), "\n") {
		lines = append(lines, oneLine(line))
	}
	return lines
}

// complainRoutes prints what is wrong with the routes, each problem with its place
// at the beginning of a line, where editors look for it.
func complainRoutes(stderr io.Writer, err error) {
	lines := problemLines(err)
	for _, line := range lines {
		fmt.Fprintln(stderr, line)
	}
	fmt.Fprintf(stderr, "listener: not started: %s with the routes\n", counted(len(lines), "problem"))
}

// counted is n with what is counted.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// uses is channels with those that r uses besides. A nil r uses none.
func (r *ruleset) uses(channels []dispatch.Channel) []dispatch.Channel {
	all := slices.Clone(channels)
	if r == nil {
		return all
	}
	for _, u := range r.Channels() {
		if !slices.Contains(all, u.Channel) {
			all = append(all, u.Channel)
		}
	}
	return all
}

// variables are the names of all variables that r reads. A nil r reads none.
func (r *ruleset) variables() []string {
	if r == nil {
		return nil
	}
	return variablesOf(r.Routes)
}

func variablesOf(r *routes.Routes) []string {
	all := r.Variables()
	for _, u := range r.CredentialUses() {
		all = append(all, u.Variables...)
	}
	return all
}

// routing is the routes file in force, and all that has to hear of another one.
type routing struct {
	rules    *ruleset
	lookups  *pgxpool.Pool
	router   *routes.Router
	http     *httpcall.Sender
	listener *listener.Listener
}

// newRouting has senders plan by rules. It does not connect yet.
func newRouting(ctx context.Context, c *config, senders *channels, l *listener.Listener, rules *ruleset) (*routing, error) {
	lookups, err := newLookupPool(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &routing{lookups: lookups, http: senders.http, listener: l}
	r.router = routes.NewRouter(rules.Routes, r.facts(rules), senders.openai)
	if err := r.replace(rules); err != nil {
		lookups.Close()
		return nil, err
	}
	senders.Use(r.router)
	return r, nil
}

// newLookupPool makes the connections for lookups: to the same database, as the
// same user.
func newLookupPool(ctx context.Context, c *config) (*pgxpool.Pool, error) {
	pc, err := parseDatabase(c.DatabaseURL, c.DatabaseSSL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL %w", err)
	}
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = lookupConns, 0, 0
	pc.ConnConfig.RuntimeParams["application_name"] += "-lookups"
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc)
}

func (r *routing) facts(rules *ruleset) routes.Facts {
	role, timeout := rules.LookupRole()
	return routes.Database(&query.Reader{Pool: r.lookups, Role: role, Timeout: timeout})
}

// replace has what is planned, and what is sent, from now on go by rules. On an
// error, which names a credential, nothing has changed.
func (r *routing) replace(rules *ruleset) error {
	if err := r.http.SetCredentials(rules.credentials); err != nil {
		return fmt.Errorf("%s: %w", rules.path, err)
	}
	r.listener.SetSQL(listener.SQLConfig{Role: rules.SQLRole()})
	r.router.Replace(rules.Routes, r.facts(rules))
	r.rules = rules
	return nil
}

func (r *routing) close() { r.lookups.Close() }

// String says which routes there were at the start, for the log. That of a nil
// routing is "none".
func (r *routing) String() string {
	if r == nil {
		return "none"
	}
	return r.rules.path + ": " + r.rules.Summary()
}
