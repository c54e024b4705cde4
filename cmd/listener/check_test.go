package main

import (
	"encoding/json"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
	"github.com/outbox-listener/outbox-listener/sql"
)

// checkedRoutes is a good routes file on the tables of checkedDB.
const checkedRoutes = `version: 1
credentials:
  crm:
    oauth2: {token_url: "URL/oauth2/token", client_id: CRM_ID, client_secret: CRM_SECRET}
    hosts: ["127.0.0.1"]
routes:
  - name: sent
    event: quote.sent
    lookup:
      quote:
        sql: |
          select q.id, q.total, c.email, c.phone
          from quotes q join contacts c on c.id = q.contact_id
          where q.id = :quoteId
    let: {amount: "{{money .quote.total}}"}
    deliver:
      - name: text
        when: quote.total > 0
        sms: {to: "{{.quote.phone}}", body: "Your quote: {{.amount}}"}
      - name: mail
        email: {to: "{{.quote.email}}", subject: Your quote, text: "{{.amount}}"}
      - name: crm
        http: {url: "URL/v1/things", credential: crm, json: {id: "{{.quote.id}}"}}
      - name: stage
        sql: update quotes set stage = 'sent' where id = :quoteId
`

func checkedDB(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `create table contacts (id integer primary key, email text, phone text)`)
	pgtest.Exec(t, db, `create table quotes (id integer primary key, contact_id integer, total numeric, stage text)`)
	return db
}

// asDaemon is the address of db for a role that has what a daemon needs, and may read
// and write the tables that there are, and that are made later.
func asDaemon(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	role := pgtest.Role(t, db, "daemon")
	pgtest.Exec(t, db, sql.Grants(role))
	pgtest.Exec(t, db, `grant select, insert, update, delete on all tables in schema public to `+role)
	pgtest.Exec(t, db, `alter default privileges in schema public grant select, insert, update, delete on tables to `+role)
	return asRole(t, db, role)
}

// asRole is the address of db for a role that it has.
func asRole(t *testing.T, db *pgtest.DB, role string) string {
	t.Helper()
	as, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	query := as.Query()
	query.Set("role", role)
	as.RawQuery = query.Encode()
	return as.String()
}

// checkResult is what listener check --json prints.
type checkResult struct {
	OK                 bool
	Problems, Warnings int
	Findings           []finding
	Checked            []subject
}

func runChecked(t *testing.T, env map[string]string, args ...string) (checkResult, int) {
	t.Helper()
	got := call(t, env, append([]string{"check", "--json"}, args...)...)
	var c checkResult
	if err := json.Unmarshal([]byte(got.stdout), &c); err != nil || got.stderr != "" {
		t.Fatalf("%v; stdout %s stderr %s", err, got.stdout, got.stderr)
	}
	return c, got.code
}

// TestCheck: everything is good, and then one thing is not.
func TestCheck(t *testing.T) {
	t.Parallel()
	providers, err := startStandins()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { providers.close() })
	api, err := standin.NewAPI(standin.APIConfig{ClientID: "crm", ClientSecret: "crm-canary"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	_, port, _ := net.SplitHostPort(gone.Addr().String())
	swap := func(old, new string) func(string) string {
		return func(file string) string {
			if !strings.Contains(file, old) {
				t.Fatalf("no %q in the file", old)
			}
			return strings.ReplaceAll(file, old, new)
		}
	}
	// Two more routes, a and b, with a step of one name.
	twice := func(a, b string) func(string) string {
		return func(file string) string {
			for _, r := range [][2]string{{"a", a}, {"b", b}} {
				file += strings.NewReplacer("NAME", r[0], "KEY", r[1]).Replace(`
  - name: NAME
    event: order.NAME
    deliver:
      - name: later
        KEY
        sms: {to: "+12025550123", body: Hello}
`)
			}
			return file
		}
	}
	for _, tt := range []struct {
		name string
		sql  string // run before
		file func(string) string
		env  map[string]string
		args []string
		want []string // findings, as they are printed
	}{
		{name: "all is good"},
		{name: "a misspelt column in SQL", file: swap("q.total, c", "q.totl, c"),
			want: []string{`routes.yaml:12:24: the lookup quote cannot be run: column q.totl does not exist (SQLSTATE 42703); use a column that there is`}},
		{name: "a column in a template that is not selected", file: swap("{{.quote.email}}", "{{.quote.mail}}"),
			want: []string{`routes.yaml:21:24: the lookup quote has no column "mail"; did you mean "email"? it has id, total, email, phone`}},
		{name: "a column in a condition that is not selected", file: swap("quote.total > 0", "quote.stage == 'new'"),
			want: []string{`routes.yaml:18:15: the lookup quote has no column "stage"; it has id, total, email, phone`}},
		{name: "two columns of one name", file: swap("q.total, c", "q.total, c.id, c"),
			want: []string{`routes.yaml:23:`}},
		{name: "a dropped table", sql: `drop table contacts`,
			want: []string{`routes.yaml:13:30: the lookup quote cannot be run: relation "contacts" does not exist (SQLSTATE 42P01); create the table, or name another one`}},
		{name: "a misspelt column in an sql step", file: swap("set stage", "set stge"),
			want: []string{`routes.yaml:25:32: the sql step stage cannot be run: column "stge" of relation "quotes" does not exist (SQLSTATE 42703); use a column that there is`}},
		{name: "an unknown name in a template", file: swap("{{.amount}}", "{{.amont}}"),
			want: []string{`routes.yaml:19:`, `routes.yaml:21:`}},
		{name: "a role that is not there", file: swap("credentials:", "lookups: {role: nobody_here, sql_role: nobody_else}\ncredentials:"),
			want: []string{"routes.yaml: lookups cannot run as the role nobody_here: ", "routes.yaml: sql steps cannot run as the role nobody_else: "}},
		{name: "a whole table", sql: `insert into quotes select n, n from generate_series(1, 20000) as n; analyze quotes`, file: swap("q.id = :quoteId", "q.stage = :stage"),
			want: []string{`routes.yaml:11:14: warning: the lookup quote reads all of quotes, about 20,000 rows; an index on quotes (stage) would help`}},
		{name: "a whole table that is not large", sql: `insert into quotes select n, n from generate_series(1, 20000) as n; analyze quotes`, file: swap("q.id = :quoteId", "q.stage = :stage"),
			args: []string{"--large", "50000"}},
		{name: "a whole table of another schema", sql: `create schema app; grant usage on schema app to public; alter default privileges in schema app grant select on tables to public; create table app.quotes (id integer, stage text); insert into app.quotes select n, 'new' from generate_series(1, 20000) as n`,
			file: swap("from quotes q join", "from app.quotes a join quotes q on q.id = a.id and a.stage = :stage join"),
			want: []string{`routes.yaml:11:14: warning: the lookup quote reads all of app.quotes, about `}},
		{name: "a small table of another schema", sql: `create schema app; grant usage on schema app to public; alter default privileges in schema app grant select on tables to public; create table app.quotes (id integer primary key, stage text)`,
			file: swap("from quotes q join", "from app.quotes a join quotes q on q.id = a.id and a.stage = :stage join")},
		{name: "a lookup that locks", file: swap("where q.id = :quoteId\n    let", "where q.id = :quoteId for update\n    let"),
			want: []string{`routes.yaml:11:14: the lookup quote cannot be run: it locks rows, which is not allowed in a READ ONLY transaction (SQLSTATE 25006); a lookup reads only: `}},
		{name: "a lookup that writes", file: swap("select q.id, ", "update quotes q set stage = stage returning q.id, "),
			want: []string{`routes.yaml:13:11: the lookup quote cannot be run: syntax error at or near … (SQLSTATE 42601); a lookup is one query that reads: a select`}},
		{name: "cancels of a step that there is not", file: swap("    deliver:\n", "    cancels:\n      - {steps: [remnder], key: payload.id}\n    deliver:\n"),
			want: []string{`routes.yaml:17:18: warning: there is no step "remnder" with supersedes, so that this cancels nothing but what an earlier file has left`}},
		{name: "two routes of one key", file: twice("supersedes: payload.id", "supersedes:  payload . id")},
		{name: "two routes of different keys", file: twice("supersedes: payload.id", "supersedes: payload.number"),
			want: []string{`routes.yaml:38:21: warning: the step later supersedes that of the route a too, whose key is payload.id (line 31); if they are about different things, give the steps different names, or say in the key what it is about`}},
		{name: "a call", sql: `create procedure sent(id integer) language sql as $$ update quotes set stage = 'sent' $$`, file: swap("update quotes set stage = 'sent' where id = :quoteId", "call sent(:quoteId)")},
		{name: "a call of nothing", file: swap("update quotes set stage = 'sent' where id = :quoteId", "call sent(:quoteId)"),
			want: []string{`routes.yaml:25:19: the sql step stage cannot be run: procedure sent(`}},
		{name: "a credential for whatever host an event names", file: func(file string) string {
			file = swap("    hosts: [\"127.0.0.1\"]\n", "")(file)
			return regexp.MustCompile(`url: "http[^"]*/v1/things"`).ReplaceAllString(file, `url: "{{.quote.email}}"`)
		}, want: []string{`routes.yaml:21:9: warning: the step crm sends the credential crm to whatever host the event names; give the credential its hosts`}},
		{name: "a variable of the routes that looks like ours", env: map[string]string{"OUTBOX_WORKER": "kim", "OUTBOX_ROUTE": "x"}, file: swap("version: 1", "version: 1\nexpose_env: [OUTBOX_WORKER]"),
			want: []string{"warning: OUTBOX_ROUTE is none of our variables; did you mean OUTBOX_ROUTES?"}},
		{name: "secrets that texts may send", file: swap("version: 1", "version: 1\nexpose_env:\n  - SITE_URL\n  - SMTP_PASS\n  - CRM_SECRET"), want: []string{
			"routes.yaml:4:5: warning: expose_env lists SMTP_PASS, a secret of the listener, so that any text may send it; leave it out",
			"routes.yaml:5:5: warning: expose_env lists CRM_SECRET, part of the credential crm, so that any text may send it; leave it out"}},
		{name: "events that are to be deleted", sql: `do $$ begin execute (select string_agg(format('revoke delete on public.outbox_events from %I', grantee), ';')
			from information_schema.role_table_grants where table_name = 'outbox_events' and privilege_type = 'DELETE' and grantee <> 'postgres');end $$`, env: map[string]string{"OUTBOX_RETAIN_PROCESSED": "30d"},
			want: []string{"OUTBOX_RETAIN_PROCESSED: the role "}},
		{name: "events that are to be deleted, and may be", env: map[string]string{"OUTBOX_RETAIN_PROCESSED": "30d"}},
		{name: "a channel that is not configured", env: map[string]string{"TWILIO_FROM": ""},
			want: []string{"routes.yaml:17:9: the step text would be skipped: sms is not configured; missing: TWILIO_FROM"}},
		{name: "a channel that is not configured, offline", env: map[string]string{"TWILIO_FROM": ""}, args: []string{"--offline"},
			want: []string{"routes.yaml:17:9: warning: the step text would be skipped: sms is not configured; missing: TWILIO_FROM"}},
		{name: "variables that are not set", env: map[string]string{"CRM_SECRET": ""}, file: swap("version: 1", "version: 1\nexpose_env: [SITE_URL]"),
			want: []string{"routes.yaml:5:"}},
		{name: "an optional credential that is not set", env: map[string]string{"CRM_SECRET": ""}, file: swap("  crm:\n", "  crm:\n    optional: true\n"),
			want: []string{"routes.yaml:3:3: warning: the credential crm is left out, since not all of its variables are set (CRM_ID, CRM_SECRET)"}},
		{name: "wrong keys", env: map[string]string{"TWILIO_AUTH_TOKEN": "canary", "OPENAI_API_KEY": "canary", "CRM_SECRET": "canary"},
			want: []string{"routes.yaml:3:3: no token for the credential crm from 127.0.0.1:", "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN: the credentials are wrong (status 401, code 20003)", "OPENAI_API_KEY: key refused (401)"}},
		{name: "wrong keys that nobody asks about", env: map[string]string{"TWILIO_AUTH_TOKEN": "canary", "OPENAI_API_KEY": "canary", "CRM_SECRET": "canary"}, args: []string{"--offline"}},
		{name: "providers that are not there", env: map[string]string{"TWILIO_API_BASE_URL": "http://" + gone.Addr().String(), "SMTP_PORT": port, "OPENAI_BASE_URL": "http://" + gone.Addr().String() + "/v1"},
			want: []string{"TWILIO_API_BASE_URL: GET " + gone.Addr().String() + ": dial tcp", "SMTP_HOST or SMTP_PORT: dial tcp ", "OPENAI_BASE_URL: GET " + gone.Addr().String()}},
		{name: "a database that is not there", env: map[string]string{"DATABASE_URL": "postgres://u:canary@" + gone.Addr().String() + "/db?sslmode=disable"},
			want: []string{"DATABASE_URL: the database cannot be worked with: "}},
		{name: "a database that is not migrated", sql: `drop schema outbox cascade`, want: []string{"DATABASE_URL: the database is not ready: "}},
		{name: "a superuser", env: map[string]string{"DATABASE_URL": "as it comes"},
			want: []string{`warning: DATABASE_URL: role "postgres" has superuser`}},
		{name: "no database", env: map[string]string{"DATABASE_URL": ""}, want: []string{"DATABASE_URL is not set; "}},
		{name: "a routes file that is not there", env: map[string]string{"OUTBOX_ROUTES": "nowhere.yaml"}, want: []string{`OUTBOX_ROUTES="nowhere.yaml" (environment) cannot be read: `}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := checkedDB(t)
			daemon := asDaemon(t, db)
			if tt.sql != "" {
				for _, one := range strings.Split(tt.sql, "; ") {
					pgtest.Exec(t, db, one)
				}
			}
			file := strings.ReplaceAll(checkedRoutes, "URL", api.URL())
			if tt.file != nil {
				file = tt.file(file)
			}
			dir := t.TempDir()
			put(t, dir, "routes.yaml", file)
			env := providers.env()
			env["DATABASE_URL"], env["OUTBOX_ROUTES"] = daemon, filepath.Join(dir, "routes.yaml")
			env["CRM_ID"], env["CRM_SECRET"] = "crm", "crm-canary"
			for k, v := range tt.env {
				env[k] = v
			}
			if env["DATABASE_URL"] == "as it comes" {
				env["DATABASE_URL"] = db.URL
			}
			got, code := runChecked(t, env, tt.args...)
			problems := 0
			good := len(got.Findings) == len(tt.want)
			for i, f := range got.Findings {
				if f.Severity == "problem" {
					problems++
				}
				line := strings.ReplaceAll(f.String(), dir+string(filepath.Separator), "")
				good = good && strings.HasPrefix(line, tt.want[i]) && !strings.Contains(line, "canary")
			}
			wantCode := exitOK
			if problems > 0 {
				wantCode = exitFailures
			}
			if !good || code != wantCode || got.OK != (problems == 0) || got.Problems != problems || got.Warnings != len(got.Findings)-problems {
				t.Errorf("exit code %d, %d problems, %d warnings, ok %t", code, got.Problems, got.Warnings, got.OK)
				for _, f := range got.Findings {
					t.Logf("%s", f)
				}
			}
		})
	}
}

// TestCheckPrints: what people read.
func TestCheckPrints(t *testing.T) {
	t.Parallel()
	db := checkedDB(t)
	dir := t.TempDir()
	put(t, dir, "routes.yaml", `version: 1
routes:
  - name: paid
    event: order.paid
    lookup: {quote: {sql: "select total from quotes where id = :id"}}
    deliver:
      - {name: note, log: {text: "{{.quote.totl}}"}}
`)
	file := filepath.Join(dir, "routes.yaml")
	got := call(t, map[string]string{"DATABASE_URL": asDaemon(t, db), "OUTBOX_ROUTES": file, "OUTBOX_WEBHOOK_SECRET": webhookSecret}, "check")
	want := file + `:7:37: the lookup quote has no column "totl"; did you mean "total"? it has total

routes    ` + file + `: 1 route, 1 step
database  migrated; 1 lookup and 0 sql steps planned
sms       not configured
email     not configured
openai    not configured
webhook   configured; there is nobody to ask before one is sent

1 problem, 0 warnings
`
	if got.code != exitFailures || got.stdout != want || got.stderr != "" {
		t.Errorf("exit code %d, stdout\n%s\nstderr %s", got.code, got.stdout, got.stderr)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 12345678: "12,345,678"} {
		if got := grouped(n); got != want {
			t.Errorf("%v: %s", n, got)
		}
	}
	if f := (finding{File: "f", Message: "m"}); f.String() != "f: m" {
		t.Errorf("%s", f)
	}
}
