package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/admin"
	"github.com/outbox-listener/outbox-listener/listener/operate"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// runCmd is the listener itself: what happens when no command is named.
type runCmd struct {
	Once  bool `help:"Deliver batch after batch until nothing is due, print the counts as JSON, and exit: 0, or 3 if something was not delivered."`
	Limit int  `placeholder:"N" help:"With --once: stop after N events. 0 means all."`
}

// Validate is called by kong.
func (c runCmd) Validate() error {
	switch {
	case c.Limit < 0:
		return errors.New("--limit has to be 0 or more")
	case c.Limit > 0 && !c.Once:
		return errors.New("--limit goes with --once; OUTBOX_BATCH_SIZE limits the one batch")
	}
	return nil
}

// stats is what the one-shot modes print and the admin endpoint answers.
type stats struct {
	OK        bool `json:"ok"`
	Total     int  `json:"total"`
	Processed int  `json:"processed"`
	Skipped   int  `json:"skipped"`
	Errors    int  `json:"errors"`
}

// program is one run of the listener.
type program struct {
	cfg            *config
	settings       settings
	log            *slog.Logger
	stdout, stderr io.Writer
	pool           *pgxpool.Pool
	routing        *routing        // nil without routes
	twilio         *twilio.Sender  // nil where SMS are not configured
	ordered        func() []string // what the routes have in order
	listener       *listener.Listener
	ready          atomic.Bool // and systemd knows
	terminals      []any       // those that it was started in, and is not to outlive
	trial          bool        // the server was made for it, so that nobody granted anything
}

// runListener delivers events in the mode that cmd and the configuration ask
// for, and returns the exit code.
func runListener(ctx context.Context, cmd runCmd, s settings, stdout, stderr io.Writer) int {
	cfg, problems := readConfig(s)
	daemonMode := cfg.PollInterval > 0 && !cmd.Once
	logs := stderr // stdout is for the counts
	if daemonMode {
		logs = stdout
	}
	lines := newLogQueue(logs)
	defer lines.close()
	log := newLogger(lines, cfg.LogFormat, cfg.LogLevel, s.env)
	lines.dropped = func(n int) { log.Warn("log lines dropped, since nobody read them", "count", n) }
	var hangups <-chan os.Signal
	var outlives bool
	if daemonMode { // before anything that takes time
		var stop func()
		hangups, outlives, stop = catchHangups()
		defer stop()
	}
	senders, more := newChannels(cfg, log)
	problems = append(problems, more...)
	rules, err := findRoutes(cfg, problems, s)
	if len(problems) > 0 {
		complain(stderr, problems)
	}
	if err != nil {
		complainRoutes(stderr, err)
	}
	if len(problems) > 0 || err != nil {
		return exitCannot
	}
	defer senders.Close()
	for _, m := range s.misspelled(rules.variables()...) {
		log.Warn("unknown variable ignored; is it misspelled?", "name", m.name, "meant", m.meant)
	}
	warnUnconfigured(cfg, rules.uses(providers), log)
	warnRedirected(cfg.Redirect, log)
	if daemonMode { // what runs once has nobody to report to
		warnFallbacks(cfg, rules, log)
	}

	p := &program{cfg: cfg, settings: s, log: log, stdout: stdout, stderr: stderr}
	if !outlives {
		p.terminals = slices.DeleteFunc([]any{os.Stdin, stdout, stderr}, func(f any) bool { return !isTerminal(f) })
	}
	if err := p.open(ctx, senders, rules); err != nil {
		return p.fail(err)
	}
	defer p.close()
	if daemonMode {
		return p.daemon(ctx, senders.names, hangups)
	}
	return p.once(ctx, cmd)
}

// open makes the pools and the listener; it does not connect yet. Without routes
// rules is nil. Where the error is nil, close is to be called.
func (p *program) open(ctx context.Context, senders *channels, rules *ruleset) error {
	pc, err := parseDatabase(p.cfg.DatabaseURL, p.cfg.DatabaseSSL)
	if err != nil {
		return fmt.Errorf("DATABASE_URL %w", err)
	}
	if host := plaintext(pc); host != "" {
		p.log.Warn("the connection to the database may go over the network without TLS; sslmode=verify-full in DATABASE_URL prevents it", "host", host)
	}
	p.twilio = senders.twilio
	p.ordered = senders.Ordered
	lc := listener.Config{
		Dispatcher:    senders.Dispatcher,
		BatchSize:     p.cfg.BatchSize,
		Workers:       p.cfg.Workers,
		PollInterval:  p.cfg.PollInterval,
		Lease:         p.cfg.Lease,
		MaxAttempts:   p.cfg.MaxAttempts,
		MaxCrashes:    p.cfg.MaxCrashes,
		MaxPayload:    p.cfg.MaxPayload,
		ShutdownGrace: p.cfg.ShutdownGrace,
		StateDir:      p.cfg.StateDir,

		RetainProcessed: p.cfg.RetainProcessed,
		RetainLedger:    p.cfg.RetainLedger,

		Redirect: p.cfg.Redirect,
		SMS:      p.cfg.SMS,
		Clock:    senders.clock,
		Rates:    p.cfg.Rates,
		Log:      p.log,
	}
	if len(p.cfg.SMSCountries) > 0 {
		lc.SMS.Country = p.cfg.SMSCountries.Has
	}
	if p.cfg.ListenURL != "" {
		listen, err := parseDatabase(p.cfg.ListenURL, p.cfg.DatabaseSSL)
		if err != nil {
			return fmt.Errorf("OUTBOX_LISTEN_DATABASE_URL %w", err)
		}
		lc.Listen = listen.ConnConfig
	}
	if p.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc); err != nil {
		return err
	}
	lc.Pool = p.pool
	if p.listener, err = listener.New(lc); err == nil && rules != nil {
		p.routing, err = newRouting(ctx, p.cfg, senders, p.listener, rules)
	}
	if err != nil {
		p.pool.Close()
	}
	return err
}

// close lets go of what open made.
func (p *program) close() {
	if p.routing != nil {
		p.routing.close()
	}
	p.pool.Close()
}

// once delivers one batch, or with --once all that is due, and prints the
// counts. The one batch exits 0 whenever it ran, as the worker before us did:
// its schedulers take anything else for a crash.
func (p *program) once(ctx context.Context, cmd runCmd) int {
	if err := awaitDatabase(ctx, p.pool, false, p.log, nil); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped before anything was done")
		}
		return p.fail(err)
	}
	limit := p.cfg.BatchSize
	if cmd.Once {
		limit = cmd.Limit
	}
	st, err := p.listener.Once(ctx, limit)
	out, jerr := json.MarshalIndent(stats{err == nil, st.Total, st.Processed, st.Skipped, st.Errors}, "", "  ")
	if jerr == nil {
		_, jerr = fmt.Fprintf(p.stdout, "%s\n", out)
	}
	switch {
	case err != nil:
		return p.fail(fmt.Errorf("broke off: %w", err))
	case jerr != nil:
		return p.fail(jerr)
	case cmd.Once && st.Errors > 0:
		return exitFailures
	}
	return exitOK
}

// daemon delivers events until ctx ends. At each of hangups it reads the routes
// anew.
func (p *program) daemon(ctx context.Context, channels []string, hangups <-chan os.Signal) int {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	// The listener lives a little longer than ctx where somebody waits for a
	// dispatch.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d := &drains{listener: p.listener}

	var helpers sync.WaitGroup
	defer helpers.Wait()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	address, err := p.serveAdmin(serving, d, &helpers)
	if err != nil {
		return p.fail(err)
	}
	p.log.Info("starting", "version", version(), "channels", strings.Join(channels, ", "), "poll", p.cfg.PollInterval,
		"workers", p.cfg.Workers, "lease", p.cfg.Lease, "routes", p.routing.String(), "admin", address)
	helpers.Go(func() { p.reloadAt(serving, hangups, quit) })

	err = awaitDatabase(ctx, p.pool, true, p.log, func() { notify(p.log, patience) })
	if ctx.Err() != nil {
		p.log.Info("stopped before the database was ready")
		return exitOK
	}
	if err != nil {
		return p.fail(err)
	}

	if !p.trial {
		p.warnExcess(ctx)
	}
	helpers.Go(func() {
		announceReady(running, p.listener.Health, p.log)
		p.ready.Store(running.Err() == nil)
	})
	helpers.Go(func() { feedWatchdog(running, p.alive, p.log) })
	helpers.Go(func() {
		<-serving.Done()
		p.log.Info("stopping")
		notify(p.log, daemon.SdNotifyStopping)
		d.close(drainGrace)
		stop()
	})
	err = p.listener.Run(running)
	stop()
	stopServing()
	helpers.Wait()
	if err != nil {
		return p.fail(err)
	}
	p.log.Info("stopped")
	return exitOK
}

// warnExcess has a line of a role that may do more than it needs.
func (p *program) warnExcess(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if excess, err := migrations.Excess(ctx, p.pool); err == nil && excess != "" { // an error is soon met again
		p.log.Warn("DATABASE_URL has rights that it should not have", "reason", excess)
	}
}

// serveAdmin starts the admin endpoint, if there is a key to it, and returns
// where it listens.
func (p *program) serveAdmin(ctx context.Context, d *drains, helpers *sync.WaitGroup) (string, error) {
	callbacks := p.callbacks()
	switch {
	case p.cfg.AdminKey == "" && callbacks == nil:
		p.log.Warn("no admin endpoint and no probes: ADMIN_API_KEY is not set")
		return "off", nil
	case p.cfg.AdminKey == "":
		p.log.Warn("no admin endpoint and no probes, but callbacks: ADMIN_API_KEY is not set", "callbacks", callbacks.Path)
	}
	desk, err := p.deskPool(ctx)
	if err != nil {
		return "", err
	}
	operator := operate.New(desk)
	operator.Ordered = p.ordered
	server, err := admin.New(admin.Config{
		Key:        p.cfg.AdminKey,
		Callbacks:  callbacks,
		Drain:      d.drain,
		Look:       operator,
		Operate:    operator.Do,
		Pause:      operator.Pause,
		Health:     p.listener.Health,
		Ping:       p.pool.Ping,
		SweepEvery: p.listener.SweepEvery(),
		Grace:      p.cfg.ShutdownGrace + drainGrace,
		Log:        p.log,
	})
	if err != nil {
		desk.Close()
		return "", err
	}
	l, err := net.Listen("tcp", p.cfg.AdminAddr)
	if err != nil {
		desk.Close()
		return "", fmt.Errorf("cannot serve the admin endpoint at OUTBOX_ADMIN_ADDR=%s: %w", p.cfg.AdminAddr, lastError(err))
	}
	if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil && remote(host) {
		p.log.Warn("the admin endpoint can be reached from other machines, by plain HTTP", "addr", l.Addr().String())
	}
	helpers.Go(func() {
		defer desk.Close()
		if err := server.Serve(ctx, l); err != nil {
			p.log.Error("admin endpoint ended", "error", err)
		}
	})
	return l.Addr().String(), nil
}

// Connections for what people ask at the admin endpoint.
const (
	deskConns = 2 // a long look, and a pause meanwhile
	deskIdle  = time.Minute
)

// deskPool makes the pool for what people ask at the admin endpoint. It has connections of its
// own, since a walk through the ledger may take minutes: as many of these as the listener's
// pool has would keep it from everything. There are none while nobody asks.
func (p *program) deskPool(ctx context.Context) (*pgxpool.Pool, error) {
	pc := p.pool.Config()
	pc.MaxConns, pc.MinConns, pc.MinIdleConns, pc.MaxConnIdleTime = deskConns, 0, 0, deskIdle
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc)
}

// callbacks is where Twilio reports, nil where it was not told to.
func (p *program) callbacks() *admin.Callbacks {
	if p.cfg.Twilio.Callback == "" {
		return nil
	}
	if p.twilio == nil {
		p.log.Warn("OUTBOX_TWILIO_CALLBACK_URL has no effect: sms is not configured")
		return nil
	}
	return &admin.Callbacks{Path: p.twilio.CallbackPath(), Read: p.twilio.ReadCallback, Record: p.listener.Report}
}

// lastError is the innermost cause of err, which says in a few words what a
// system call found.
func lastError(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func (p *program) alive(ctx context.Context) bool {
	return alive(p.listener.Health(), time.Now(), p.listener.SweepEvery(), func() error {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		return p.pool.Ping(ctx)
	})
}

// fail prints one line that says why there is nothing to be done.
func (p *program) fail(err error) int {
	fmt.Fprintln(p.stderr, "listener: "+oneLine(err.Error()))
	return exitCannot
}

// complain prints everything that is wrong with the configuration.
func complain(stderr io.Writer, problems configError) int {
	if len(problems) == 1 {
		fmt.Fprintf(stderr, "listener: %v\n", problems)
		return exitCannot
	}
	fmt.Fprintf(stderr, "listener: %d problems with the configuration:\n", len(problems))
	for _, p := range problems {
		fmt.Fprintf(stderr, "  %v\n", p)
	}
	return exitCannot
}

// drainGrace is how long a stop waits for dispatches that somebody asked for,
// before the listener stops claiming under them.
const drainGrace = 5 * time.Second

var errNotRunning = errors.New("the listener is not running")

// drains are the dispatches that were asked for at the admin endpoint.
type drains struct {
	listener *listener.Listener

	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup
}

// drain delivers up to limit events and counts them.
func (d *drains) drain(ctx context.Context, limit int) (listener.Stats, error) {
	d.mu.Lock()
	if d.closed || d.listener.Health().LastSweep.IsZero() {
		d.mu.Unlock()
		return listener.Stats{}, errNotRunning
	}
	d.open.Add(1)
	d.mu.Unlock()
	defer d.open.Done()
	return d.listener.Drain(ctx, limit)
}

// close lets no more of them begin and waits for those under way, at most for
// grace.
func (d *drains) close(grace time.Duration) {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		d.open.Wait()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
