package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/country"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/dispatch/webhook"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/admin"
)

// config is everything that the program can be told by variables.
type config struct {
	DatabaseURL dispatch.Secret
	DatabaseSSL bool
	ListenURL   dispatch.Secret

	BatchSize     int
	PollInterval  time.Duration // 0: one batch, then exit
	Workers       int
	Lease         time.Duration
	MaxAttempts   int
	MaxCrashes    int
	MaxPayload    int // bytes
	ShutdownGrace time.Duration
	StateDir      string // "": nothing is kept at a stop; see readConfig

	RetainProcessed time.Duration // negative: for ever
	RetainLedger    time.Duration // negative: for ever

	LogFormat logFormat
	LogLevel  slog.Level

	AdminAddr string
	AdminKey  dispatch.Secret // "": no admin endpoint

	Routes string // path; "": defaultRoutes, where there is one

	Redirect dispatch.Redirect
	SMS      listener.SMSLimits

	SMSCountries country.List

	Rates map[dispatch.Channel]listener.Rate

	OnUncertain map[dispatch.Channel]dispatch.OnUnknown // of what has no route that says otherwise

	Twilio struct {
		AccountSID string
		AuthToken  dispatch.Secret
		From       string
		BaseURL    string
		Callback   string // "": none
	}
	SMTP struct {
		Host string
		Port int // 0: by TLS
		User string
		Pass dispatch.Secret
		From string
		TLS  smtp.TLSMode
	}
	Webhook struct {
		Secret    dispatch.Secret
		Allow     []netip.Prefix
		AllowHTTP bool
	}
	OpenAI struct {
		Key     dispatch.Secret
		Model   string
		BaseURL string
	}
}

// variable is one row of the table: what a person reads about a variable, and
// how its value is read. Texts are Markdown.
type variable struct {
	kind
	name     string
	group    string // set in the first row of a group, and meant for those after it
	meaning  string
	def      string // as one would write it; "" means none
	unset    string // what holds without a value, where def does not say it
	required bool
	secret   bool // never shown, and NAME_FILE works too
}

// variables is the table. The documentation is generated from it, and it is
// what reads the configuration.
var variables = []variable{
	{group: "Database",
		name: "DATABASE_URL", secret: true, required: true,
		meaning: "The database that has `outbox_events`.",
		kind:    postgresURL(func(c *config) *dispatch.Secret { return &c.DatabaseURL }, neededConns)},
	{name: "DATABASE_SSL", def: "false",
		meaning: "Ask for TLS where the URL says nothing about it: as `sslmode=require` in the URL. For a server that is not on this machine `sslmode=verify-full` is better, since it also makes sure who answers.",
		kind:    yesNo(func(c *config) *bool { return &c.DatabaseSSL })},
	{name: "OUTBOX_LISTEN_DATABASE_URL", secret: true, unset: "`DATABASE_URL`",
		meaning: "The way to the same database for `LISTEN`, where `DATABASE_URL` goes through a pooler such as PgBouncer in transaction mode.",
		kind:    postgresURL(func(c *config) *dispatch.Secret { return &c.ListenURL }, 0)},

	{group: "Work",
		name: "OUTBOX_POLL_INTERVAL_MS", def: "0",
		meaning: "Above 0: run as a daemon, and look at least this often for what no notification announced. 0: deliver one batch and exit.",
		kind:    milliseconds(func(c *config) *time.Duration { return &c.PollInterval }, 24*time.Hour)},
	{name: "OUTBOX_BATCH_SIZE", def: "10",
		meaning: "Most events of one claim, and of the one batch. Under load several claims go at once; 10 is enough.",
		kind:    number(func(c *config) *int { return &c.BatchSize }, 1, 1000)},
	{name: "OUTBOX_WORKERS", def: "32",
		meaning: "Deliveries under way at once. One destination has at most seven eighths of them, and fewer while it does not answer.",
		kind:    number(func(c *config) *int { return &c.Workers }, 1, 1000)},
	{name: "OUTBOX_LEASE", def: "20s",
		meaning: "How long a claim lasts unless it is renewed, which happens three times as often. After a crash, events wait this long for another listener.",
		kind:    duration(func(c *config) *time.Duration { return &c.Lease }, time.Second, time.Hour)},
	{name: "OUTBOX_MAX_ATTEMPTS", def: "12",
		meaning: "Attempts before a delivery is given up as dead. 12 take about a day.",
		kind:    number(func(c *config) *int { return &c.MaxAttempts }, 1, 1000)},
	{name: "OUTBOX_MAX_CRASHES", def: "3",
		meaning: "Listeners that end while they have an event, within a day, before it is dead without another try; the last time it was tried alone. `0`: never.",
		kind:    numberOrNever(func(c *config) *int { return &c.MaxCrashes }, 2, 1000)},
	{name: "OUTBOX_MAX_PAYLOAD_BYTES", def: "1048576",
		meaning: "Larger payloads are refused: their deliveries are dead at once.",
		kind:    number(func(c *config) *int { return &c.MaxPayload }, 1, 256<<20)},
	{name: "OUTBOX_SHUTDOWN_GRACE", def: "40s",
		meaning: "How long a stop waits for what is being sent.",
		kind:    duration(func(c *config) *time.Duration { return &c.ShutdownGrace }, 10*time.Millisecond, time.Hour)},
	{name: "OUTBOX_STATE_DIR", unset: "the first of `STATE_DIRECTORY`, which systemd sets where the unit has a `StateDirectory=`; else none",
		meaning: "A directory for what was sent and cannot be recorded at a stop, since the database is away. It is recorded at the next start: see [operate.md](operate.md#stopped-while-the-database-is-away). Without one it may be sent again.",
		kind:    checked(text(func(c *config) *string { return &c.StateDir }, "the path of a directory"), directory)},

	{group: "Routes",
		name: "OUTBOX_ROUTES", unset: "`routes.yaml` in the working directory, where there is one",
		meaning: "The file that says what events become. Read at the start, and again at SIGHUP, which Windows does not have. What its `expose_env` and `credentials` name is looked up as any other variable; credentials may stand in files of their own too (`NAME_FILE`).",
		kind:    checked(text(func(c *config) *string { return &c.Routes }, "the path of a file"), readable)},

	{group: "Retention",
		name: "OUTBOX_RETAIN_PROCESSED", def: "off",
		meaning: "Processed events older than this are deleted from `outbox_events`. Needs the right to: see [retention.md](retention.md).",
		kind:    retention(func(c *config) *time.Duration { return &c.RetainProcessed })},
	{name: "OUTBOX_RETAIN_LEDGER", def: "30d",
		meaning: "Finished deliveries older than this are deleted from `outbox.deliveries`, with their attempts, dead ones too.",
		kind:    retention(func(c *config) *time.Duration { return &c.RetainLedger })},

	{group: "Staging",
		name: "OUTBOX_REDIRECT_SMS", unset: "none",
		meaning: "The number that gets every SMS in its recipient's place. As soon as one of these three is set, what is neither redirected nor allowed is not sent: it is `held`, also what was planned before.",
		kind: checked(text(func(c *config) *string { return &c.Redirect.SMS }, "a number in E.164 form such as `+15550100123`"), func(v string) error {
			if (dispatch.SMS{To: v, Body: "x"}).Validate() != nil {
				return errUnfit
			}
			return nil
		})},
	{name: "OUTBOX_REDIRECT_EMAIL", unset: "none",
		meaning: "The address that gets every e-mail in place of its recipients, those in `cc` and `bcc` too. They are named, masked, in the header `X-Original-To`.",
		kind: checked(mailAddress(func(c *config) *string { return &c.Redirect.Email }), func(v string) error {
			if (dispatch.Email{To: []string{v}, Subject: "x", Text: "x"}).Validate() != nil {
				return errUnfit
			}
			return nil
		})},
	{name: "OUTBOX_ALLOW_RECIPIENTS", unset: "everybody, where neither of the other two is set, else nobody",
		meaning: "Who may be sent to, where nothing is redirected. Hosts are for webhooks and requests, which cannot be redirected. `+*` is every number, `@*` every address.",
		kind:    recipients(func(c *config) *dispatch.Recipients { return &c.Redirect.Allow })},

	{group: "Rates",
		name: "OUTBOX_RATE_SMS", unset: "no limit",
		meaning: "How many attempts may begin for one sender of SMS, in all listeners together. What is more waits its turn, in the ledger, and no worker with it. After a while without any, half a second's worth may begin at once, so that no second has more than 1.7 times the rate, or one more where that is less.",
		kind:    rate(dispatch.ChannelSMS)},
	{name: "OUTBOX_RATE_EMAIL", unset: "no limit",
		meaning: "The same for the mail server.",
		kind:    rate(dispatch.ChannelEmail)},
	{name: "OUTBOX_RATE_WEBHOOK", unset: "no limit",
		meaning: "The same for each host that webhooks go to.",
		kind:    rate(dispatch.ChannelWebhook)},
	{name: "OUTBOX_RATE_HTTP", unset: "no limit",
		meaning: "The same for each host that the requests of routes go to.",
		kind:    rate(dispatch.ChannelHTTP)},
	{name: "OUTBOX_RATE_OPENAI", unset: "no limit",
		meaning: "The same for `openai` steps. Words that a route asks for while it is planned do not count.",
		kind:    rate(dispatch.ChannelOpenAI)},

	{group: "When nobody can tell whether it arrived",
		name: "OUTBOX_ON_UNCERTAIN_SMS", def: "reconcile",
		meaning: "What follows for an SMS whose answer was lost, where its route does not say so by `on_uncertain`, as of direct events. `reconcile` asks Twilio whether it has it, `hold` leaves it to a person, `never_twice` gives it up, `resend` sends it again. See [guarantees.md](guarantees.md).",
		kind:    onUncertain(dispatch.ChannelSMS, dispatch.Reconcile, dispatch.Hold, dispatch.NeverTwice, dispatch.Resend)},
	{name: "OUTBOX_ON_UNCERTAIN_EMAIL", def: "resend",
		meaning: "The same for e-mail. `resend` sends it again under the same `Message-ID`.",
		kind:    onUncertain(dispatch.ChannelEmail, dispatch.Resend, dispatch.Hold, dispatch.NeverTwice)},
	{name: "OUTBOX_ON_UNCERTAIN_WEBHOOK", def: "resend",
		meaning: "The same for webhooks. `resend` sends it again under the same `webhook-id`.",
		kind:    onUncertain(dispatch.ChannelWebhook, dispatch.Resend, dispatch.Hold, dispatch.NeverTwice)},
	{name: "OUTBOX_ON_UNCERTAIN_HTTP", def: "hold",
		meaning: "The same for the requests of routes whose second does harm. Others are made again.",
		kind:    onUncertain(dispatch.ChannelHTTP, dispatch.Hold, dispatch.NeverTwice, dispatch.Resend)},

	{group: "Log",
		name: "OUTBOX_LOG_FORMAT", def: "auto",
		meaning: "`auto` is `tint` on a terminal, `text` with priorities in the systemd journal, and `json` everywhere else. `NO_COLOR` is respected.",
		kind:    choice(func(c *config) *logFormat { return &c.LogFormat }, logAuto, logTint, logText, logJSON)},
	{name: "OUTBOX_LOG_LEVEL", def: "info",
		meaning: "The least severe lines to write.",
		kind:    level(func(c *config) *slog.Level { return &c.LogLevel })},

	{group: "Admin endpoint",
		name: "OUTBOX_ADMIN_ADDR", def: "127.0.0.1:3001",
		meaning: "Where the daemon serves the admin endpoint and the probes. It speaks plain HTTP: on other than loopback addresses put TLS in front of it.",
		kind:    listenAddress(func(c *config) *string { return &c.AdminAddr })},
	{name: "ADMIN_API_KEY", secret: true, unset: "no endpoint",
		meaning: "The key to the admin endpoint, for `x-api-key` or `Authorization: Bearer`. Without it nothing is served at all, but for what `OUTBOX_TWILIO_CALLBACK_URL` names.",
		kind: checked(secret(func(c *config) *dispatch.Secret { return &c.AdminKey }, "a text that nobody can guess, best of 24 characters or more (`openssl rand -hex 24`)"),
			func(v string) error { return admin.CheckKey(dispatch.Secret(v)) })},

	{group: "SMS (Twilio)",
		name:    "TWILIO_ACCOUNT_SID",
		meaning: "The account. SMS are sent if it, the token and the sender are all set; otherwise they are skipped as not configured.",
		kind: checked(text(func(c *config) *string { return &c.Twilio.AccountSID }, "an account SID (`AC…`): letters, digits, `-` and `_`"), func(v string) error {
			if len(v) > 64 || strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
				return errUnfit
			}
			return nil
		})},
	{name: "TWILIO_AUTH_TOKEN", secret: true,
		meaning: "Its token.",
		kind:    secret(func(c *config) *dispatch.Secret { return &c.Twilio.AuthToken }, "the token of the account")},
	{name: "TWILIO_FROM",
		meaning: "The sender of messages that name none.",
		kind:    text(func(c *config) *string { return &c.Twilio.From }, "a number such as `+15005550006`, or a sender id of the account")},
	{name: "TWILIO_API_BASE_URL", def: "https://api.twilio.com",
		meaning: "Where Twilio's API is; for tests and proxies.",
		kind:    httpURL(func(c *config) *string { return &c.Twilio.BaseURL }, "https://api.twilio.com")},

	{name: "OUTBOX_SMS_COUNTRIES", unset: "all",
		meaning: "The countries that SMS may go to, against those who have your application send to numbers that are paid for each. An SMS to another one is dead.",
		kind:    countries(func(c *config) *country.List { return &c.SMSCountries })},
	{name: "OUTBOX_SMS_PER_NUMBER", unset: "no limit",
		meaning: "SMS to one number within an hour. What is more is `held`.",
		kind:    number(func(c *config) *int { return &c.SMS.PerNumber }, 1, 1000)},
	{name: "OUTBOX_SMS_PER_DAY", unset: "no limit",
		meaning: "SMS in all, of a day in UTC, by all listeners together. What is more is `held`, with a warning.",
		kind:    number(func(c *config) *int { return &c.SMS.PerDay }, 1, 10000000)},
	{name: "OUTBOX_TWILIO_CALLBACK_URL", unset: "Twilio reports nothing",
		meaning: "Where Twilio reports what became of each SMS: the public URL of this path at `OUTBOX_ADMIN_ADDR`, which a proxy with TLS passes on. It needs no `ADMIN_API_KEY`: reports are known by Twilio's signature. A fragment says how Twilio connects, such as `#rc=3&rp=5xx`. See [ledger.md](ledger.md#what-twilio-reports).",
		kind:    checked(text(func(c *config) *string { return &c.Twilio.Callback }, "an https URL such as `https://hooks.example.com/twilio/status`, with a path of letters, digits, `-`, `_`, `.` and `~`, none of the admin endpoint's, and without a query; http for this machine alone"), checkCallback)},

	{group: "E-mail (SMTP)",
		name:    "SMTP_HOST",
		meaning: "The mail server. E-mail is sent if it and the sender are set; otherwise it is skipped as not configured.",
		kind:    hostName(func(c *config) *string { return &c.SMTP.Host })},
	{name: "SMTP_PORT", unset: "587, or 465 with `SMTP_TLS=implicit`",
		meaning: "Its port.",
		kind:    number(func(c *config) *int { return &c.SMTP.Port }, 1, 65535)},
	{name: "SMTP_FROM",
		meaning: "The sender of every e-mail.",
		kind:    mailAddress(func(c *config) *string { return &c.SMTP.From })},
	{name: "SMTP_USER", unset: "no login",
		meaning: "The user to log in as; goes with `SMTP_PASS`.",
		kind:    text(func(c *config) *string { return &c.SMTP.User }, "a user name")},
	{name: "SMTP_PASS", secret: true,
		meaning: "The password of that user.",
		kind:    secret(func(c *config) *dispatch.Secret { return &c.SMTP.Pass }, "a password")},
	{name: "SMTP_TLS", unset: "`implicit` on port 465, `none` on this machine, otherwise `starttls`",
		meaning: "How the connection is encrypted. `starttls` refuses servers that do not offer it; `opportunistic` takes what is offered, also nothing.",
		kind:    choice(func(c *config) *smtp.TLSMode { return &c.SMTP.TLS }, smtp.TLSStartTLS, smtp.TLSImplicit, smtp.TLSOpportunistic, smtp.TLSNone)},

	{group: "Webhooks",
		name: "OUTBOX_WEBHOOK_SECRET", secret: true,
		meaning: "Signs webhooks as Standard Webhooks asks. Several secrets sign side by side while receivers change from one to the next. One with `HOST=` before it signs what goes to that host, and no other does there. Without any webhooks are skipped as not configured.",
		kind: checked(secret(func(c *config) *dispatch.Secret { return &c.Webhook.Secret }, "`whsec_` and the base64 of 24 to 64 random bytes, after `HOST=` or `HOST:PORT=` where it is for one receiver; several are separated by blanks or commas"), func(v string) error {
			_, err := webhook.New(webhook.Config{Secrets: []dispatch.Secret{dispatch.Secret(v)}})
			if err == nil {
				return nil
			}
			reason, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "OUTBOX_WEBHOOK_SECRET: "), ";")
			return errors.New(reason)
		})},
	{name: "OUTBOX_WEBHOOK_ALLOW_CIDRS", unset: "none",
		meaning: "Private, loopback and reserved networks that webhooks and the requests of routes may go to all the same, with plain http and any port. Other addresses are public ones, by https on ports 443 and 8443.",
		kind:    networks(func(c *config) *[]netip.Prefix { return &c.Webhook.Allow })},
	{name: "OUTBOX_WEBHOOK_ALLOW_HTTP", def: "false",
		meaning: "Let webhooks and requests go to public addresses by plain http on port 80 too. What they carry can then be read on the way.",
		kind:    yesNo(func(c *config) *bool { return &c.Webhook.AllowHTTP })},

	{group: "Words by a model (OpenAI)",
		name: "OPENAI_API_KEY", secret: true, unset: "no model is asked",
		meaning: "The key to the API, for routes that ask a model. Without it their copy comes from their templates, and `openai` steps are skipped as not configured. For a server that needs no key any text will do.",
		kind: checked(secret(func(c *config) *dispatch.Secret { return &c.OpenAI.Key }, "a key (`sk-…`): visible ASCII characters, without blanks"), func(v string) error {
			_, err := openai.New(openai.Config{Key: dispatch.Secret(v)})
			return unfit(err)
		})},
	{name: "OPENAI_MODEL", def: openai.DefaultModel,
		meaning: "The model that is asked where a route names none.",
		kind: checked(text(func(c *config) *string { return &c.OpenAI.Model }, "the name of a model, such as `gpt-5-mini`"), func(v string) error {
			_, err := openai.New(openai.Config{Key: "none", Model: v})
			return unfit(err)
		})},
	{name: "OPENAI_BASE_URL", def: openai.DefaultBaseURL,
		meaning: "Where the API is, with its version; for servers that are compatible, tests and proxies.",
		kind:    httpURL(func(c *config) *string { return &c.OpenAI.BaseURL }, openai.DefaultBaseURL)},
}

// checkCallback holds v to what Twilio can be given for its reports, and our admin
// endpoint can serve.
func checkCallback(v string) error {
	u, err := twilio.CheckCallback(v)
	if err != nil || admin.CallbackPathTaken(u.Path) {
		return errUnfit
	}
	return nil
}

// unfit is errUnfit for any error: what is accepted says it all.
func unfit(err error) error {
	if err != nil {
		return errUnfit
	}
	return nil
}
