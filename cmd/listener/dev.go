package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/standin"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// devCmd is `listener dev`.
type devCmd struct {
	Once      bool   `help:"Deliver the samples, print what became of them, and exit: 0 if each arrived exactly once, else 1."`
	DataDir   string `placeholder:"DIR" type:"path" help:"Keep the database in this folder from one run to the next. Without it, the database is temporary."`
	Port      int    `placeholder:"PORT" help:"Port of the database on 127.0.0.1. By default a free one."`
	AdminAddr string `placeholder:"HOST:PORT" help:"Where to serve the admin endpoint. By default a free port on 127.0.0.1."`
	Routes    string `placeholder:"PATH" type:"path" help:"Have this routes file say what events become, with requests to the stand-ins only."`
	Verbose   bool   `short:"v" help:"Log everything, the database's own log too, and not only warnings. Logs go to stderr."`
}

// Help is the longer part of the command's help.
func (devCmd) Help() string {
	return `It starts a private Postgres, stand-ins for Twilio, an SMTP server, a
receiver of webhooks and OpenAI, and the listener against them; inserts sample
events; and shows what arrives until Ctrl-C. Configuration is neither needed nor
read.

With --routes, events become what the file says; the tables that it looks into are
yours to create, best with --data-dir. Variables that it names come from the
environment. Requests and webhooks to any other address than those of the stand-ins
are held; OUTBOX_DEV_API_URL is, for expose_env, where requests can go.

An SMS to a number that ends in 0003 is reported as undelivered, any other as delivered.

Postgres is found along PATH or where packages put it, or else is downloaded
once. OUTBOX_DEV_PG_BIN names the folder of initdb and postgres to use instead.`
}

// Validate is called by kong.
func (c devCmd) Validate() error {
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("--port %d is not between 1 and 65535", c.Port)
	}
	if c.AdminAddr != "" {
		_, port, err := net.SplitHostPort(c.AdminAddr)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			return fmt.Errorf("--admin-addr %q is not an address such as 127.0.0.1:3001", c.AdminAddr)
		}
	}
	return nil
}

// Bounds on what could take for ever. The first is for a download of Postgres
// over a slow line.
const (
	devStartTimeout  = 5 * time.Minute
	devReadyTimeout  = 20 * time.Second
	devSampleTimeout = 30 * time.Second
	devStopTimeout   = 15 * time.Second
)

// devDatabase is the name of the database that the events are in.
const devDatabase = "outbox"

// dev is one run of `listener dev`.
type dev struct {
	cmd    devCmd
	screen *screen
	stderr io.Writer
	closes []func() error // what was started, in that order

	server   *devpg.Server
	pool     *pgxpool.Pool // for what dev itself asks; the listener has its own
	standins *devStandins
	routes   string // for the header; "" without --routes
	admin    string // address of the admin endpoint
	key      string // the key to it
	listener *listener.Listener
	stop     context.CancelFunc // of the listener
	ended    chan struct{}      // closed once it has
	samples  []*devSample
}

var errDevEnded = errors.New("the listener ended by itself")

// runDev runs everything on this machine until ctx ends, or with --once until
// the samples are through. Then nothing is left of it: no process, and no
// folder but the one that --data-dir names.
func runDev(ctx context.Context, cmd devCmd, stdout, stderr io.Writer) int {
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal was closed
		defer stop()
	}
	d := &dev{cmd: cmd, screen: newScreen(stdout), stderr: stderr}
	err := d.start(ctx)
	if err == nil {
		if cmd.Once {
			err = d.once(ctx)
		} else {
			err = d.show(ctx)
		}
	}
	if ctx.Err() != nil {
		err = nil // whatever it says, it comes from being stopped
		if cmd.Once {
			err = errors.New("stopped before the samples were through")
		}
	}
	if cerr := d.close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("cleaning up: %w", cerr))
	}
	switch {
	case errors.Is(err, errDevSamples): // the verdict is printed
		return exitCannot
	case err != nil:
		fmt.Fprintf(stderr, "listener dev: %v\n", err)
		return exitCannot
	case !cmd.Once && cmd.DataDir != "":
		d.screen.printf("\nstopped; the database is kept in %s\n", cmd.DataDir)
	case !cmd.Once:
		d.screen.printf("\nstopped; the database is removed\n")
	}
	return exitOK
}

// start starts everything, up to a listener that waits for events.
func (d *dev) start(ctx context.Context) error {
	d.screen.printf("%s\n", d.screen.dim("starting Postgres …"))
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	if err := d.prepare(ctx); err != nil {
		return fmt.Errorf("preparing the database: %w", err)
	}
	var err error
	if d.standins, err = startStandins(); err != nil {
		return err
	}
	d.closes = append(d.closes, d.standins.close)
	if err := d.startListener(ctx); err != nil {
		return err
	}
	return d.ready(ctx)
}

func (d *dev) startPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devStartTimeout)
	defer cancel()
	var err error
	d.server, err = devpg.Start(ctx, devpg.Options{
		DataDir: d.cmd.DataDir,
		Port:    d.cmd.Port,
		Fsync:   true, // or else the latencies would be those of a toy
		Settings: map[string]string{
			"shared_buffers":         "32MB",
			"track_commit_timestamp": "on", // for devCommits
		},
		Log: serverLog{d.stderr, d.cmd.Verbose},
	})
	if err != nil {
		return err
	}
	d.closes = append(d.closes, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), devStopTimeout)
		defer cancel()
		return d.server.Stop(ctx)
	})
	return nil
}

// serverLog passes on the server's log, or of it only what tells why nothing
// seems to happen.
type serverLog struct {
	w   io.Writer
	all bool
}

func (l serverLog) Write(b []byte) (int, error) {
	if l.all || bytes.HasPrefix(b, []byte("downloading ")) {
		return l.w.Write(b)
	}
	return len(b), nil
}

// devCommits notes which transaction inserted an event, so that its commit
// time can be looked up: the row itself forgets when it is claimed.
const devCommits = `
create schema if not exists outbox_dev;
create unlogged table if not exists outbox_dev.commits (event_id uuid primary key, xid xid8 not null);
create or replace function outbox_dev.note_commit() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as
$$
begin
    insert into outbox_dev.commits select id, pg_current_xact_id() from inserted
    on conflict (event_id) do update set xid = excluded.xid;
    return null;
end
$$;
drop trigger if exists outbox_dev_note_commit on public.outbox_events;
create trigger outbox_dev_note_commit
    after insert on public.outbox_events referencing new table as inserted
    for each statement execute function outbox_dev.note_commit();`

// prepare makes the database and migrates it, each where that is missing.
func (d *dev) prepare(ctx context.Context) error {
	err := withConn(ctx, d.server.URL("postgres"), func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, devDatabase).Scan(&there); err != nil || there {
			return err
		}
		_, err := conn.Exec(ctx, `create database `+devDatabase)
		return err
	})
	if err != nil {
		return err
	}
	err = withConn(ctx, d.server.URL(devDatabase), func(conn *pgx.Conn) error {
		if _, err := migrations.Up(ctx, conn, migrations.Options{}); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, devCommits)
		return err
	})
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(d.server.URL(devDatabase))
	if err != nil {
		return err
	}
	config.MaxConns = 2
	config.ConnConfig.RuntimeParams["application_name"] = applicationName + " dev"
	if d.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), config); err != nil {
		return err
	}
	d.closes = append(d.closes, func() error { d.pool.Close(); return nil })
	return nil
}

// withConn runs f with a connection of its own.
func withConn(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	err = f(conn)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// startListener starts the daemon as `listener` does, on a configuration that
// names the stand-ins.
func (d *dev) startListener(ctx context.Context) error {
	address, err := reserve(cmp.Or(d.cmd.AdminAddr, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("cannot serve the admin endpoint: %w", err)
	}
	d.admin, d.key = address, rand.Text()

	env := d.standins.env()
	env["DATABASE_URL"] = d.server.URL(devDatabase)
	env["OUTBOX_POLL_INTERVAL_MS"] = "5000"
	env["OUTBOX_SHUTDOWN_GRACE"] = "5s" // Ctrl-C is not to be a trial of patience
	env["OUTBOX_ADMIN_ADDR"] = d.admin
	env["ADMIN_API_KEY"] = d.key
	if callbacks := "http://" + d.admin + devCallbacks; checkCallback(callbacks) == nil { // it is on this machine
		env["OUTBOX_TWILIO_CALLBACK_URL"] = callbacks
	}
	s := settings{env: env}
	cfg, problems := readConfig(s)

	level := slog.LevelWarn
	if d.cmd.Verbose {
		level = slog.LevelDebug
	}
	log := newLogger(d.stderr, logTint, level, map[string]string{"TERM": os.Getenv("TERM"), "NO_COLOR": os.Getenv("NO_COLOR")})
	senders, more := newChannels(cfg, log)
	d.closes = append(d.closes, func() error { senders.Close(); return nil })
	if problems = append(problems, more...); len(problems) > 0 {
		return problems
	}
	var rules *ruleset
	if d.cmd.Routes != "" {
		if rules, err = d.readRoutes(s); err != nil {
			return fmt.Errorf("the routes cannot be used:\n%s", strings.Join(problemLines(err), "\n"))
		}
		d.routes = rules.path + ": " + rules.Summary() + "; what they send elsewhere than to the stand-ins is held"
		if cfg.Redirect, err = d.standins.only(); err != nil {
			return err
		}
	}
	p := &program{cfg: cfg, settings: s, log: log, stdout: d.stderr, stderr: d.stderr, trial: true}
	if err := p.open(ctx, senders, rules); err != nil {
		return err
	}
	d.closes = append(d.closes, func() error { p.close(); return nil })
	d.listener = p.listener

	running, stop := context.WithCancel(ctx)
	d.stop, d.ended = stop, make(chan struct{})
	go func() {
		defer close(d.ended)
		p.daemon(running, senders.names, nil) // prints why, should it fail
	}()
	d.closes = append(d.closes, func() error { d.stopListener(); return nil })
	return nil
}

// reserve finds out whether address can be listened at, and returns it with
// the port that a port of 0 came to mean.
func reserve(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until the listener is at rest and hears notifications, so that
// the first sample meets what every later event will meet.
func (d *dev) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devReadyTimeout)
	defer cancel()
	for {
		if h := d.listener.Health(); h.Listening && !h.LastSweep.IsZero() {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-d.ended:
			return errDevEnded
		case <-ctx.Done():
			return fmt.Errorf("the listener was not ready after %s", devReadyTimeout)
		}
	}
}

// stopListener stops the daemon and waits for it.
func (d *dev) stopListener() {
	d.stop()
	<-d.ended
}

// close stops what was started, last things first.
func (d *dev) close() error {
	var errs []error
	for _, f := range slices.Backward(d.closes) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// devStandins are the providers of a dev run, and what they received.
type devStandins struct {
	twilio  *standin.Twilio
	smtp    *standin.SMTP
	webhook *standin.Webhook
	openai  *standin.OpenAI
	api     *standin.API
	account [2]string // SID and token at Twilio
	secret  string    // that webhooks are signed with
	key     string    // to OpenAI
	arrivals
}

func startStandins() (_ *devStandins, err error) {
	s := &devStandins{
		account:  [2]string{"ACdev", rand.Text()},
		secret:   "whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text()+rand.Text())),
		key:      "sk-dev-" + rand.Text(),
		arrivals: arrivals{more: make(chan struct{})},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.twilio, err = standin.NewTwilio(s.account[0], s.account[1]); err != nil {
		return nil, err
	}
	if s.smtp, err = standin.NewSMTP(standin.SMTPOptions{}); err != nil {
		return nil, err
	}
	if s.webhook, err = standin.NewWebhook(s.secret); err != nil {
		return nil, err
	}
	if s.openai, err = standin.NewOpenAI(s.key); err != nil {
		return nil, err
	}
	if s.api, err = standin.NewAPI(standin.APIConfig{}); err != nil {
		return nil, err
	}
	s.twilio.OnReceive(s.add)
	s.twilio.ScriptCallbacks(devFates)
	s.smtp.OnReceive(s.add)
	s.webhook.OnReceive(s.add)
	return s, nil
}

// devCallbacks is the path at which the stand-in for Twilio reports.
const devCallbacks = "/twilio/status"

// devFates is what it reports: an SMS arrives, unless its number ends in 0003.
func devFates(_ int, m standin.Received) []standin.TwilioCallback {
	end := standin.TwilioCallback{Status: "delivered", After: 200 * time.Millisecond}
	if strings.HasSuffix(m.Recipient, "0003") {
		end.Status, end.Code = "undelivered", 30003
	}
	return []standin.TwilioCallback{{Status: "sent"}, end}
}

// env is what makes a listener send to them.
func (s *devStandins) env() map[string]string {
	return map[string]string{
		"TWILIO_ACCOUNT_SID":         s.account[0],
		"TWILIO_AUTH_TOKEN":          s.account[1],
		"TWILIO_FROM":                "+12025550100",
		"TWILIO_API_BASE_URL":        s.twilio.URL(),
		"SMTP_HOST":                  s.smtp.Host(),
		"SMTP_PORT":                  strconv.Itoa(s.smtp.Port()),
		"SMTP_FROM":                  "Dev <dev@example.com>",
		"OPENAI_API_KEY":             s.key,
		"OPENAI_BASE_URL":            s.openai.URL(),
		"OUTBOX_WEBHOOK_SECRET":      s.secret,
		"OUTBOX_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8,::1/128",
	}
}

func (s *devStandins) close() error {
	var errs []error
	if s.twilio != nil {
		errs = append(errs, s.twilio.Close())
	}
	if s.smtp != nil {
		errs = append(errs, s.smtp.Close())
	}
	if s.webhook != nil {
		errs = append(errs, s.webhook.Close())
	}
	if s.openai != nil {
		errs = append(errs, s.openai.Close())
	}
	if s.api != nil {
		errs = append(errs, s.api.Close())
	}
	return errors.Join(errs...)
}

// ofWebhooks is the receiver's address in the form that the ledger has it.
func (s *devStandins) ofWebhooks() string {
	return dispatch.Mask(dispatch.ChannelWebhook, s.webhook.URL())
}
