package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener"
)

// write makes a file in a directory of the test and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func environ(env map[string]string) settings { return settings{env: env} }

func TestConfigurationPage(t *testing.T) {
	const path = "../../docs/configuration.md"
	want := configMarkdown()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != want {
		t.Errorf("%s is not what vars.go says: go test ./cmd/listener -run TestConfigurationPage -update", path)
	}
	if printed := call(t, nil, "config", "--markdown"); printed.code != exitOK || printed.stdout != want {
		t.Error("config --markdown prints something else")
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for i := range variables {
		v := &variables[i]
		if seen[v.name] {
			t.Errorf("%s is there twice", v.name)
		}
		seen[v.name] = true
		if v.meaning == "" || v.accepts == "" || v.set == nil {
			t.Errorf("%s is not complete", v.name)
		}
		if !strings.HasSuffix(v.meaning, ".") || strings.HasSuffix(v.accepts, ".") {
			t.Errorf("%s: the meaning is sentences, what is accepted is none", v.name)
		}
		if v.def != "" && v.unset != "" {
			t.Errorf("%s has two defaults", v.name)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, problems := readConfig(environ(map[string]string{"DATABASE_URL": "postgres://localhost/db"}))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c.BatchSize != listener.DefaultBatchSize || c.Workers != listener.DefaultWorkers || c.Lease != listener.DefaultLease ||
		c.MaxAttempts != listener.DefaultMaxAttempts || c.MaxPayload != listener.DefaultMaxPayload || c.ShutdownGrace != listener.DefaultShutdownGrace ||
		c.RetainProcessed != listener.Forever || c.RetainLedger != listener.DefaultRetainLedger {
		t.Errorf("the table's defaults are not those of package listener: %+v", c)
	}
	if c.PollInterval != 0 || c.AdminAddr != "127.0.0.1:3001" || c.AdminKey != "" || c.LogFormat != logAuto {
		t.Errorf("%+v", c)
	}
}

func TestValues(t *testing.T) {
	const good = "postgres://localhost/db"
	poll := func(c *config) any { return c.PollInterval }
	batch := func(c *config) any { return c.BatchSize }
	lease := func(c *config) any { return c.Lease }
	smsRate := func(c *config) any { return c.Rates[dispatch.ChannelSMS] }
	unknown := func(ch dispatch.Channel) func(*config) any { return func(c *config) any { return c.OnUncertain[ch] } }
	events := func(c *config) any { return c.RetainProcessed }
	ledger := func(c *config) any { return c.RetainLedger }
	ssl := func(c *config) any { return c.DatabaseSSL }
	port := func(c *config) any { return c.SMTP.Port }
	for _, tt := range []struct {
		name, value string
		read        func(*config) any
		want        any // nil: refused
	}{
		{"OUTBOX_POLL_INTERVAL_MS", "5000", poll, 5 * time.Second},
		{"OUTBOX_POLL_INTERVAL_MS", " 5000 ", poll, 5 * time.Second},
		{"OUTBOX_POLL_INTERVAL_MS", "", poll, time.Duration(0)},
		{"OUTBOX_POLL_INTERVAL_MS", "5s", poll, nil},
		{"OUTBOX_POLL_INTERVAL_MS", "-1", poll, nil},
		{"OUTBOX_POLL_INTERVAL_MS", "NaN", poll, nil},
		{"OUTBOX_BATCH_SIZE", "50", batch, 50},
		{"OUTBOX_BATCH_SIZE", "0", batch, nil},
		{"OUTBOX_BATCH_SIZE", "2.5", batch, nil},
		{"OUTBOX_BATCH_SIZE", "99999999999999999999", batch, nil},
		{"OUTBOX_LEASE", "2s", lease, 2 * time.Second},
		{"OUTBOX_LEASE", "1m30s", lease, 90 * time.Second},
		{"OUTBOX_LEASE", "30", lease, 30 * time.Second},
		{"OUTBOX_LEASE", "500ms", lease, nil},
		{"OUTBOX_RATE_SMS", "10/s", smsRate, listener.Rate{Count: 10, Per: time.Second}},
		{"OUTBOX_RATE_SMS", "1000/h", smsRate, listener.Rate{Count: 1000, Per: time.Hour}},
		{"OUTBOX_RATE_SMS", "10", smsRate, nil},
		{"OUTBOX_RATE_SMS", "0/s", smsRate, nil},
		{"OUTBOX_ON_UNCERTAIN_SMS", "Hold", unknown(dispatch.ChannelSMS), dispatch.Hold},
		{"OUTBOX_ON_UNCERTAIN_SMS", "", unknown(dispatch.ChannelSMS), dispatch.Reconcile},
		{"OUTBOX_ON_UNCERTAIN_SMS", "once", nil, nil},
		{"OUTBOX_ON_UNCERTAIN_EMAIL", "never_twice", unknown(dispatch.ChannelEmail), dispatch.NeverTwice},
		{"OUTBOX_ON_UNCERTAIN_EMAIL", "reconcile", nil, nil},
		{"OUTBOX_ON_UNCERTAIN_HTTP", "never_twice", unknown(dispatch.ChannelHTTP), dispatch.NeverTwice},
		{"OUTBOX_LEASE", "2 s", lease, nil},
		{"OUTBOX_RETAIN_PROCESSED", "30d", events, 720 * time.Hour},
		{"OUTBOX_RETAIN_PROCESSED", "720h", events, 720 * time.Hour},
		{"OUTBOX_RETAIN_PROCESSED", "1h", events, time.Hour},
		{"OUTBOX_RETAIN_PROCESSED", "36500d", events, 36500 * 24 * time.Hour},
		{"OUTBOX_RETAIN_PROCESSED", "", events, listener.Forever},
		{"OUTBOX_RETAIN_PROCESSED", "36501d", events, nil},
		{"OUTBOX_RETAIN_PROCESSED", "30", events, nil}, // days, or seconds?
		{"OUTBOX_RETAIN_PROCESSED", "59m", events, nil},
		{"OUTBOX_RETAIN_PROCESSED", "0d", events, nil},
		{"OUTBOX_RETAIN_PROCESSED", "-1d", events, nil},
		{"OUTBOX_RETAIN_LEDGER", "OFF", ledger, listener.Forever},
		{"OUTBOX_RETAIN_LEDGER", "0", ledger, listener.Forever},
		{"OUTBOX_RETAIN_LEDGER", "", ledger, listener.DefaultRetainLedger},
		{"DATABASE_SSL", "TRUE", ssl, true},
		{"DATABASE_SSL", "0", ssl, false},
		{"DATABASE_SSL", "ja", ssl, nil},
		{"SMTP_PORT", "465", port, 465},
		{"SMTP_PORT", "65536", port, nil},
		{"SMTP_TLS", "STARTTLS", func(c *config) any { return string(c.SMTP.TLS) }, "starttls"},
		{"SMTP_TLS", "ssl", nil, nil},
		{"SMTP_FROM", "Myst <hello@example.com>", func(c *config) any { return c.SMTP.From }, "Myst <hello@example.com>"},
		{"SMTP_FROM", "hello", nil, nil},
		{"SMTP_HOST", "::1", func(c *config) any { return c.SMTP.Host }, "::1"},
		{"SMTP_HOST", "smtp.example.com:587", nil, nil},
		{"OUTBOX_LOG_LEVEL", "DEBUG", func(c *config) any { return c.LogLevel.String() }, "DEBUG"},
		{"OUTBOX_LOG_LEVEL", "loud", nil, nil},
		{"OUTBOX_ADMIN_ADDR", ":3001", func(c *config) any { return c.AdminAddr }, ":3001"},
		{"OUTBOX_ADMIN_ADDR", "3001", nil, nil},
		{"OUTBOX_ADMIN_ADDR", "localhost:http", nil, nil},
		{"ADMIN_API_KEY", "a key with blanks ", func(c *config) any { return c.AdminKey.Reveal() }, "a key with blanks "},
		{"ADMIN_API_KEY", "changeme", nil, nil},
		{"TWILIO_API_BASE_URL", "http://127.0.0.1:4010", func(c *config) any { return c.Twilio.BaseURL }, "http://127.0.0.1:4010"},
		{"TWILIO_API_BASE_URL", "127.0.0.1:4010", nil, nil},
		{"TWILIO_ACCOUNT_SID", "AC/../x", nil, nil},
		{"OPENAI_API_KEY", "sk 1", nil, nil},
		{"OPENAI_MODEL", "", func(c *config) any { return c.OpenAI.Model }, "gpt-5-mini"},
		{"OPENAI_MODEL", "the best one", nil, nil},
		{"OPENAI_BASE_URL", "http://127.0.0.1:11434/v1", func(c *config) any { return c.OpenAI.BaseURL }, "http://127.0.0.1:11434/v1"},
		{"OPENAI_BASE_URL", "localhost:11434/v1", nil, nil},
		{"OUTBOX_WEBHOOK_ALLOW_CIDRS", "10.0.0.0/8, 127.0.0.1", func(c *config) any { return len(c.Webhook.Allow) }, 2},
		{"OUTBOX_WEBHOOK_ALLOW_CIDRS", "10.0.0.0/33", nil, nil},
		{"OUTBOX_WEBHOOK_SECRET", "whsec_c2VjcmV0", nil, nil},
		{"DATABASE_URL", "postgres://h/db?pool_max_conns=4", func(c *config) any { return c.DatabaseURL.Reveal() }, "postgres://h/db?pool_max_conns=4"},
		{"DATABASE_URL", "postgres://h/db?pool_max_conns=3", nil, nil},
		{"DATABASE_URL", "mysql://h/db", nil, nil},
		{"OUTBOX_LISTEN_DATABASE_URL", "postgres://h/db?pool_max_conns=1", func(c *config) any { return c.ListenURL != "" }, true},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			env := map[string]string{"DATABASE_URL": good}
			env[tt.name] = tt.value
			c, problems := readConfig(environ(env))
			if tt.want == nil {
				if len(problems) != 1 || problems[0].name != tt.name {
					t.Errorf("problems: %v", problems)
				}
				return
			}
			if got := tt.read(c); len(problems) > 0 || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, problems %v; want %v", got, problems, tt.want)
			}
		})
	}
}

// TestEveryProblemAtOnce also holds that no secret is shown, wherever it
// stands.
func TestEveryProblemAtOnce(t *testing.T) {
	env := map[string]string{}
	for i := range variables {
		if v := &variables[i]; v.secret {
			env[v.name] = "canary" + v.name + "\x1b[2J"
		} else {
			env[v.name] = "wrong\nvalue of " + v.name
		}
	}
	// A broken URL, a key that is a placeholder, and secrets that have gone
	// astray.
	env["DATABASE_URL"] = "postgres://u:canary/pass?word@h:x/db"
	env["OUTBOX_LISTEN_DATABASE_URL"] = "host=h password=canaryPassword sslmode=canaryMode"
	env["ADMIN_API_KEY"] = "changeme-changeme"
	env["SMTP_PORT"] = env["SMTP_PASS"]
	env["OUTBOX_BATCH_SIZE"] = "postgres://u:canary@h/db"
	for _, args := range [][]string{nil, {"--once"}, {"config"}} {
		got := call(t, env, args...)
		if got.code != exitCannot {
			t.Errorf("%v: exit code %d", args, got.code)
		}
		for _, text := range []string{got.stdout, got.stderr} {
			if strings.Contains(text, "canary") || strings.Contains(text, "changeme") || strings.Contains(text, "\x1b") {
				t.Errorf("%v: a secret is shown:\n%s", args, text)
			}
		}
		lines := strings.Count(got.stderr, "accepted: ")
		for i := range variables {
			v := &variables[i]
			switch v.name {
			case "TWILIO_AUTH_TOKEN", "TWILIO_FROM", "SMTP_USER", "SMTP_PASS":
				lines++ // any text will do
				continue
			}
			if !strings.Contains(got.stderr, "\n  "+v.name) {
				t.Errorf("%v: %s is not complained of", args, v.name)
			}
			if plain := strings.ReplaceAll(v.accepts, "`", ""); !strings.Contains(got.stderr, plain) {
				t.Errorf("%v: what %s accepts is not told", args, v.name)
			}
		}
		if lines != len(variables) {
			t.Errorf("%v: %d lines for %d variables:\n%s", args, lines, len(variables), got.stderr)
		}
	}
}

func TestProblemsName(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string // of stderr, whole
	}{
		{"nothing at all", nil,
			"listener: DATABASE_URL is not set; accepted: a Postgres URL such as postgres://user:password@host:5432/database?sslmode=verify-full, or key=value pairs; pool_* parameters may be in it\n"},
		{"a value", map[string]string{"DATABASE_URL": "postgres://h/db", "OUTBOX_WORKERS": "many"},
			"listener: OUTBOX_WORKERS=\"many\" (environment) is not accepted; accepted: a whole number from 1 to 1000\n"},
		{"a secret", map[string]string{"DATABASE_URL": "postgres://h/db", "ADMIN_API_KEY": "change-me"},
			"listener: ADMIN_API_KEY (set, 9 characters; environment) is a placeholder; accepted: a text that nobody can guess, best of 24 characters or more (openssl rand -hex 24)\n"},
		{"a URL", map[string]string{"DATABASE_URL": "postgres://h:x/db"},
			"listener: DATABASE_URL (set, 17 characters; environment) cannot be read: invalid port; accepted: a Postgres URL such as postgres://user:password@host:5432/database?sslmode=verify-full, or key=value pairs; pool_* parameters may be in it\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := call(t, tt.env); got.code != exitCannot || got.stdout != "" || got.stderr != tt.want {
				t.Errorf("exit code %d, stdout %q\n%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}

// TestSenderProblems: what only the sender of a channel can tell is told like
// anything else.
func TestSenderProblems(t *testing.T) {
	got := call(t, map[string]string{"OUTBOX_WORKERS": "many", "SMTP_HOST": "h", "SMTP_FROM": "a@müller.example"})
	for _, want := range []string{"3 problems", "DATABASE_URL is not set", "OUTBOX_WORKERS=", "  SMTP_FROM cannot be used: "} {
		if got.code != exitCannot || !strings.Contains(got.stderr, want) {
			t.Errorf("exit code %d, %s; want %q", got.code, got.stderr, want)
		}
	}
}

func TestSources(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".env", []byte("\ufeff# the application's own\r\nOUTBOX_WORKERS=1\r\nOUTBOX_LEASE=1s # short\r\nexport OUTBOX_BATCH_SIZE='7'\r\n"+
		"SENTRY_DSN=none of ours\r\nSMTP_PASS=\"a$b$LEASE c\"\r\nTWILIO_AUTH_TOKEN=$2a$10$x\r\nDATABASE_URL=postgres://u:p$1@h/db\r\nSMTP_TLS=\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSettings([]string{"OUTBOX_WORKERS=2", "OUTBOX_LEASE="}, "")
	if err != nil {
		t.Fatal(err)
	}
	c, problems := readConfig(s)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, tt := range []struct {
		what      string
		got, want any
	}{
		{"the environment goes first", c.Workers, 2},
		{"also where it says nothing", c.Lease, 20 * time.Second},
		{"then the file", c.BatchSize, 7},
		{"then the default", c.MaxAttempts, 12},
		{"a dollar is a dollar in quotes", c.SMTP.Pass.Reveal(), "a$b$LEASE c"},
		{"and without", c.Twilio.AuthToken.Reveal(), "$2a$10$x"},
		{"and in a URL", c.DatabaseURL.Reveal(), "postgres://u:p$1@h/db"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v; want %v", tt.what, tt.got, tt.want)
		}
	}
	if v := os.Getenv("OUTBOX_BATCH_SIZE"); v != "" {
		t.Errorf("the file went into the environment of the process: %s", v)
	}

	other := write(t, "other.env", "OUTBOX_BATCH_SIZE=8\n")
	if s, err = readSettings(nil, other); err != nil {
		t.Fatal(err)
	}
	if c, _ := readConfig(s); c.BatchSize != 8 || c.Workers != 32 {
		t.Errorf("--env-file: %+v", c)
	}
}

func TestEnvFileMayBeMissingUnlessNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := readSettings(nil, ""); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(".env", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readSettings(nil, ""); err != nil {
		t.Error(err)
	}
	got := call(t, nil, "--env-file", "prod.env")
	if got.code != exitCannot || !strings.Contains(got.stderr, "prod.env") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}

func TestBrokenEnvFile(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no name", "A=1\n\n# c\nmy-canary=1\nB=canary\n", "line 4 "},
		{"a name alone, and no line break behind it", "A=1\nmy-canary", "line 2 "},
		{"an open quote", "A=1\nB=\"canary\nC=canary\n", "line 2 "},
		{"UTF-16", "A\x00=\x001\x00", "UTF-8"},
		{"Latin-1", "A=M\xfcller canary", "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, nil, "--env-file", write(t, ".env", tt.text))
			if got.code != exitCannot || !strings.Contains(got.stderr, tt.want) || strings.Contains(got.stderr, "canary") {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	key := write(t, "key", "a key from a file\r\n")
	empty := write(t, "empty", "\n")
	for _, tt := range []struct {
		name string
		env  map[string]string
		file map[string]string
		want string // the key, or part of the problem
		ok   bool
	}{
		{"a file", map[string]string{"ADMIN_API_KEY_FILE": key}, nil, "a key from a file", true},
		{"a file that .env names", nil, map[string]string{"ADMIN_API_KEY_FILE": key}, "a key from a file", true},
		{"the environment goes first", map[string]string{"ADMIN_API_KEY": "a key"}, map[string]string{"ADMIN_API_KEY_FILE": key}, "a key", true},
		{"by either name", map[string]string{"ADMIN_API_KEY_FILE": key}, map[string]string{"ADMIN_API_KEY": "a key"}, "a key from a file", true},
		{"an empty name is none", map[string]string{"ADMIN_API_KEY_FILE": "", "ADMIN_API_KEY": "a key"}, nil, "a key", true},
		{"both", map[string]string{"ADMIN_API_KEY_FILE": key, "ADMIN_API_KEY": "a key"}, nil, "are both set", false},
		{"a missing file", map[string]string{"ADMIN_API_KEY_FILE": key + "2"}, nil, "ADMIN_API_KEY_FILE: open ", false},
		{"an empty file", map[string]string{"ADMIN_API_KEY_FILE": empty}, nil, "is empty", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := settings{env: map[string]string{"DATABASE_URL": "postgres://h/db"}, file: tt.file, path: ".env"}
			for k, v := range tt.env {
				s.env[k] = v
			}
			c, problems := readConfig(s)
			if tt.ok && (len(problems) > 0 || c.AdminKey.Reveal() != tt.want) {
				t.Errorf("%q, problems %v", c.AdminKey.Reveal(), problems)
			}
			if !tt.ok && (len(problems) != 1 || !strings.Contains(problems[0].String(), tt.want) || strings.Contains(problems[0].String(), "a key")) {
				t.Errorf("problems %v; want %q", problems, tt.want)
			}
		})
	}
}

func TestMisspelled(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"OUTBOX_BATCHSIZE", "OUTBOX_BATCH_SIZE"},
		{"OUTBOX_POLL_INTERVAL", "OUTBOX_POLL_INTERVAL_MS"},
		{"OUTBOX_LEASE_SECONDS", "OUTBOX_LEASE"},
		{"OUTBOX_WORKER", "OUTBOX_WORKERS"},
		{"OUTBOX_WEBHOOK_ALLOW_CIDR", "OUTBOX_WEBHOOK_ALLOW_CIDRS"},
		{"OUTBOX_WEBHOOK_SECRET_FILE", ""},
		{"OUTBOX_TEST_DATABASE_URL", ""},
		{"OUTBOX_TABLE", ""},
		{"TWILIO_FORM", ""}, // may be the application's
		{"GA4_API_SECRET", ""},
	} {
		got := environ(map[string]string{tt.name: "1"}).misspelled()
		var want []misspelling
		if tt.want != "" {
			want = []misspelling{{tt.name, tt.want}}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v; want %v", tt.name, got, want)
		}
	}
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		ch   dispatch.Channel
		want string
	}{
		{"no Twilio", nil, dispatch.ChannelSMS, "TWILIO_ACCOUNT_SID TWILIO_AUTH_TOKEN TWILIO_FROM"},
		{"half a Twilio", map[string]string{"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_API_BASE_URL": "http://h"}, dispatch.ChannelSMS, "TWILIO_AUTH_TOKEN TWILIO_FROM"},
		{"a Twilio", map[string]string{"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "t", "TWILIO_FROM": "+15005550006"}, dispatch.ChannelSMS, ""},
		{"no SMTP", nil, dispatch.ChannelEmail, "SMTP_HOST SMTP_FROM"},
		{"half an SMTP", map[string]string{"SMTP_HOST": "h"}, dispatch.ChannelEmail, "SMTP_FROM"},
		{"an SMTP without login", map[string]string{"SMTP_HOST": "h", "SMTP_FROM": "a@b.c"}, dispatch.ChannelEmail, ""},
		{"half a login", map[string]string{"SMTP_HOST": "h", "SMTP_FROM": "a@b.c", "SMTP_USER": "u"}, dispatch.ChannelEmail, "SMTP_PASS"},
		{"the other half", map[string]string{"SMTP_HOST": "h", "SMTP_FROM": "a@b.c", "SMTP_PASS": "p"}, dispatch.ChannelEmail, "SMTP_USER"},
		{"an SMTP", map[string]string{"SMTP_HOST": "h", "SMTP_FROM": "a@b.c", "SMTP_USER": "u", "SMTP_PASS": "p"}, dispatch.ChannelEmail, ""},
		{"no webhooks", map[string]string{"OUTBOX_WEBHOOK_ALLOW_CIDRS": "10.0.0.0/8"}, dispatch.ChannelWebhook, "OUTBOX_WEBHOOK_SECRET"},
		{"no model", map[string]string{"OPENAI_MODEL": "gpt-5"}, dispatch.ChannelOpenAI, "OPENAI_API_KEY"},
		{"a model", map[string]string{"OPENAI_API_KEY": "sk-1"}, dispatch.ChannelOpenAI, ""},
		{"log needs nothing", nil, dispatch.ChannelLog, ""},
	} {
		c, _ := readConfig(environ(tt.env))
		if got := strings.Join(c.missing(tt.ch), " "); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
		senders, problems := newChannels(c, nil)
		if len(problems) > 0 || senders.Configured(tt.ch) != (tt.want == "") {
			t.Errorf("%s: configured %t, problems %v", tt.name, senders.Configured(tt.ch), problems)
		}
		if (senders.openai != nil) != (c.OpenAI.Key != "") {
			t.Errorf("%s: a client for the model: %t", tt.name, senders.openai != nil)
		}
		senders.Close()
	}
}

func TestConfigCommand(t *testing.T) {
	env := map[string]string{
		"DATABASE_URL":      "postgres://u:canary@h/db?sslmode=require&sslpassword=canary",
		"ADMIN_API_KEY":     "canary-canary-canary-canary",
		"OUTBOX_BATCH_SIZE": "25",
		"OUTBOX_BATCHSIZE":  "26",
		"SMTP_USER":         "canary-canary-canary-canary",
	}
	got := call(t, env, "config")
	if got.code != exitOK {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	if strings.Contains(got.stdout+got.stderr, "canary") {
		t.Errorf("a secret is shown:\n%s%s", got.stdout, got.stderr)
	}
	rows := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(got.stdout), "\n") {
		fields := strings.Fields(line)
		rows[fields[0]] = fields[1:]
	}
	for name, want := range map[string]string{
		"DATABASE_URL":      "postgres://u:***@h/db?sslmode=require&sslpassword=*** environment",
		"ADMIN_API_KEY":     "*** environment",
		"OUTBOX_BATCH_SIZE": "25 environment",
		"OUTBOX_LEASE":      "20s default",
		"SMTP_HOST":         "- not set",
	} {
		if row := strings.Join(rows[name], " "); row != want {
			t.Errorf("%s: %q; want %q", name, row, want)
		}
	}
	if len(rows) != len(variables) {
		t.Errorf("%d rows for %d variables", len(rows), len(variables))
	}
	if !strings.Contains(got.stderr, "did you mean OUTBOX_BATCH_SIZE?") || !strings.Contains(got.stderr, "sms is not configured") {
		t.Errorf("warnings: %s", got.stderr)
	}
}

func TestMaskURL(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"postgres://u:p@h:5432/db", "postgres://u:***@h:5432/db"},
		{"postgres://h/db?password=p&x=1", "postgres://h/db?password=***&x=1"},
		{"postgres://u:p/w@h/db", "postgres://***"},
		{"https://example.com/a?b=c", "https://example.com/a?b=c"},
		{"nothing", "nothing"},
	} {
		if got := maskURL(tt.in); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.in, got, tt.want)
		}
	}
}
