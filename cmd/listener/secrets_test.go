package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// secretForms are what a secret might stand as in a text.
func secretForms(secret string) []string {
	return []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)), strconv.Quote(secret)[1 : len(strconv.Quote(secret))-1],
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	}
}

const secretRoutes = `version: 1
credentials:
  crm: {bearer: CRM_TOKEN, hosts: ["127.0.0.1"]}
  shop: {basic: {user: SHOP_USER, password: SHOP_PASSWORD}, hosts: ["127.0.0.1"]}
  books:
    oauth2: {token_url: "URL/token", client_id: BOOKS_ID, client_secret: BOOKS_SECRET}
    hosts: ["127.0.0.1"]
routes:
  - name: all
    event: all
    copy:
      instructions: Brief.
      budget: 1s
      fields: {sms: {max_chars: 100, template: Hello.}}
    deliver:
      - {name: crm, http: {url: "URL/crm?x=1", credential: crm}}
      - {name: shop, http: {url: "URL/shop", credential: shop, save: {id: id}}}
      - {name: books, http: {url: "URL/books", credential: books}}
      - {name: text, sms: {to: "+12025550123", body: "{{.copy.sms}}"}}
      - {name: mail, email: {to: ann@example.com, subject: Hello, text: Hello.}}
      - {name: hook, webhook: {url: "URL/hook"}}
      - {name: summary, openai: {instructions: Sum up., input: Nothing.}}
`

// TestNoSecretGetsOut: providers that answer with everything that was sent to them,
// and with each secret in each form, and a log that says all it can: no secret is in what
// the commands and the daemon write, in the database, or on the command line.
func TestNoSecretGetsOut(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	env := map[string]string{
		"ADMIN_API_KEY": "k3y/of+the=admin-endpoint", "TWILIO_AUTH_TOKEN": "t0ken/of+twilio=x", "SMTP_PASS": "p4ss/of+mail=x",
		"OPENAI_API_KEY": "sk-0f/the+model=x", "CRM_TOKEN": "b3arer/of+crm=x", "SHOP_PASSWORD": "p4ss/of+shop=x", "BOOKS_SECRET": "s3cret/of+books=x",
		"OUTBOX_WEBHOOK_SECRET": "whsec_" + base64.StdEncoding.EncodeToString([]byte("s3cret/of+webhooks=0123456789")),
	}
	const password = "p4ss/of+postgres=x"
	var needles []string
	for _, secret := range append(valuesOf(env), password, "s3cret/of+webhooks=0123456789") {
		needles = append(needles, secretForms(secret)...)
	}
	for _, pair := range []string{"ACstandin:" + env["TWILIO_AUTH_TOKEN"], "shop-user:" + env["SHOP_PASSWORD"], "books-id:" + env["BOOKS_SECRET"], "\x00mail-user\x00" + env["SMTP_PASS"]} {
		needles = append(needles, base64.StdEncoding.EncodeToString([]byte(pair)))
	}

	var mu sync.Mutex
	heard := map[string]int{}
	parrot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard[strings.Split(r.URL.Path, "/")[1]]++
		n := heard[strings.Split(r.URL.Path, "/")[1]]
		mu.Unlock()
		said := strings.Join(needles, " ")
		for name, values := range r.Header {
			said += fmt.Sprintf(" %s: %s", name, strings.Join(values, " "))
		}
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" && n > 1 {
			fmt.Fprintf(w, `{"access_token": "acc3ss/of+books=x", "token_type": "bearer", "expires_in": 3600}`)
			return
		}
		w.WriteHeader([]int{http.StatusUnauthorized, http.StatusBadRequest, http.StatusInternalServerError}[n%3])
		fmt.Fprintf(w, `{"code": 20003, "id": %q, "message": %q, "error": {"message": %[1]q, "type": %[1]q, "code": %[1]q}, "error_description": %[1]q}`, said, said)
	}))
	t.Cleanup(parrot.Close)
	needles = append(needles, secretForms("acc3ss/of+books=x")...)
	var logins atomic.Int32
	mail, err := standin.NewScriptedSMTP(func(event string) string {
		switch verb, _, _ := strings.Cut(event, " "); {
		case verb == "EHLO":
			return "250-here\n250 AUTH PLAIN"
		case verb == "AUTH" && logins.Add(1)%2 == 1:
			return "535 5.7.8 what is " + event + "?" // it repeats what it was told
		case verb == "MAIL":
			return "451 4.3.0 " + env["SMTP_PASS"] + " of mail-user has lost its way"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })

	dir := t.TempDir()
	put(t, dir, "routes.yaml", strings.ReplaceAll(secretRoutes, "URL", parrot.URL))
	at, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(at.User.Username(), password)
	maps.Copy(env, map[string]string{
		"DATABASE_URL": at.String(), "OUTBOX_ROUTES": filepath.Join(dir, "routes.yaml"), "OUTBOX_LOG_LEVEL": "debug",
		"OUTBOX_POLL_INTERVAL_MS": "500", "OUTBOX_ADMIN_ADDR": "127.0.0.1:0",
		"TWILIO_ACCOUNT_SID": "ACstandin", "TWILIO_FROM": "+15005550006", "TWILIO_API_BASE_URL": parrot.URL + "/twilio",
		"SMTP_HOST": mail.Host(), "SMTP_PORT": strconv.Itoa(mail.Port()), "SMTP_FROM": "shop@example.com", "SMTP_USER": "mail-user", "SMTP_TLS": "none",
		"OPENAI_BASE_URL": parrot.URL + "/openai", "OUTBOX_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
		"SHOP_USER": "shop-user", "BOOKS_ID": "books-id",
	})

	p := startListener(t, env)
	p.ready()
	insert(t, db, 4, "all", `{}`)
	pgtest.Eventually(t, 60*time.Second, func() (bool, string) {
		steps := pgtest.QueryVal[string](t, db, `select coalesce(string_agg(distinct step, ' ' order by step), '') from outbox.deliveries where attempts > 0 and last_error is not null`)
		if steps != "books crm hook mail shop summary text" {
			return false, "tried: " + steps
		}
		// What waits is due again, so that each gets each of the answers.
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where due_at > now() and claim is null or get_byte(uuid_send(claim), 6) >> 4 = 5`)
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.attempts`)
		return n >= 40, fmt.Sprintf("%d attempts", n)
	})
	texts := map[string]string{}
	if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid)); err == nil {
		texts["the command line"] = string(cmdline)
	}
	for _, line := range []string{"check", "config", "deliveries --json", "preview --type all --payload -", "replay --state dead --dry-run"} {
		got := call(t, env, strings.Fields(line)...)
		texts["listener "+line] = got.stdout + got.stderr
	}
	pgtest.Exec(t, db, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	_ = p.cmd.Process.Signal(os.Interrupt)
	p.exit(60 * time.Second)
	texts["the daemon's log"] = p.stdout.String() + p.stderr.String()
	for _, table := range pgtest.QueryVals[string](t, db, `select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('outbox', 'public') order by 1`) {
		texts["the table "+table] = strings.Join(pgtest.QueryVals[string](t, db, `select t::text from `+table+` as t`), "\n")
	}
	for where, text := range texts {
		for _, needle := range needles {
			if i := strings.Index(text, needle); i >= 0 {
				t.Errorf("%s has %q: …%.200s…", where, needle, text[max(0, i-60):])
				break
			}
		}
	}
	if n := len(texts["the daemon's log"]); n < 1000 {
		t.Errorf("the log has %d bytes", n)
	}
}

func valuesOf(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
