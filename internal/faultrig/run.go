//go:build unix

package faultrig

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

//go:embed audit.sql
var audit string

//go:embed old.sql
var old string

//go:embed hurry.sql
var hurry string

//go:embed routes.yaml
var routesFile []byte

const (
	// patience is how long the rig waits for one more event to be over before it
	// says that none will be any more.
	patience = 30 * time.Second

	// termination is how soon a listener with nothing to do has to end, on a
	// machine that does other things too.
	termination = 30 * time.Second
)

// World is a Postgres server that one run after the other has for itself, and
// the listener to be tried.
type World struct {
	program   string
	server    *devpg.Server
	template  string
	pooler    *pooler // nil where listeners reach the server by themselves
	databases int     // that tests of migrations have made
}

// NewWorld starts a server for runs of a listener that was built with the tag
// failpoint. Close it after use.
func NewWorld(ctx context.Context, program string) (_ *World, err error) {
	w := &World{program: program, template: "faultrig_template"}
	w.server, err = devpg.Start(ctx, devpg.Options{
		Fsync: true, MaxConnections: 150,
		Settings: map[string]string{"shared_buffers": "16MB", "jit": "off"},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := w.exec(ctx, "postgres", "create database "+w.template); err != nil {
		return nil, err
	}
	migrate := exec.CommandContext(ctx, program, "migrate")
	migrate.Dir = os.TempDir()
	migrate.Env = append(surroundings(), "DATABASE_URL="+w.server.URL(w.template))
	if out, err := migrate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("listener migrate: %w\n%s", err, out)
	}
	return w, w.exec(ctx, w.template, audit+old)
}

// Close stops the server.
func (w *World) Close() error {
	var err error
	if w.pooler != nil {
		err = w.pooler.stop()
	}
	return errors.Join(err, w.server.Stop(context.Background()))
}

func (w *World) exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, w.server.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// run is one run of a plan.
type run struct {
	world     *World
	plan      Plan
	dir       string
	database  string
	pool      *pgxpool.Pool // the rig's own, past all proxies
	log       *syncWriter
	faults    *faults
	daemons   []*daemon
	databases []*Proxy // before the database, one for each daemon
	providers *providers
	before    []*Proxy // before the providers, in the order of channels, and the model last
	producers *producers

	mu         sync.Mutex
	terminated []leftover
}

// Run does what a plan has and returns what all ledgers say in the end. Files
// about it go to dir. An error says that the run did not come to its end, and
// nothing about the listener.
func (w *World) Run(ctx context.Context, plan Plan, dir string) (ev *Evidence, err error) {
	r := &run{world: w, plan: plan, dir: dir, database: fmt.Sprintf("run_%d", plan.Seed), faults: &faults{}}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	begun := time.Now()
	watching, enough := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(watching) })
	watch.Go(func() { r.watchDelays(watching) })
	defer watch.Wait()
	defer enough()
	if err := r.play(ctx, begun); err != nil {
		return nil, err
	}
	quiet, left, err := r.settle(ctx)
	if err != nil {
		return nil, err
	}
	idle, queue, files, err := r.idle(ctx)
	if err != nil {
		return nil, err
	}
	var exits []string
	for _, d := range r.daemons {
		if name, code := d.retire(termination); code != 0 {
			exits = append(exits, fmt.Sprintf("%s ended with code %d after SIGTERM", name, code))
		}
		exits = append(exits, d.crashes...)
	}
	enough()
	watch.Wait()
	exits = append(exits, r.unexplained()...)
	restored, refused, err := r.kept()
	if err != nil {
		return nil, err
	}
	exits = append(exits, refused...)
	if ev, err = r.collect(ctx); err != nil {
		return nil, err
	}
	ev.Quiet, ev.Left, ev.Exits, ev.Restored = quiet, left, exits, restored
	ev.Idle, ev.Notified, ev.Files = idle, queue, files
	ev.Took = time.Since(begun)
	return ev, nil
}

// open starts everything.
func (r *run) open(ctx context.Context) error {
	file, err := os.Create(filepath.Join(r.dir, "log.txt"))
	if err != nil {
		return err
	}
	r.log = &syncWriter{to: file}
	fmt.Fprintln(r.log, r.plan)
	err = r.world.exec(ctx, "postgres", fmt.Sprintf("create database %s template %s", r.database, r.world.template))
	if err != nil {
		return err
	}
	// A sequence of the template may have numbers in stock, by a record that stands in the template's name alone: after a
	// crash the copy would begin below them. After a checkpoint it writes one of its own.
	if err := r.world.exec(ctx, "postgres", "checkpoint"); err != nil {
		return err
	}
	url := r.world.server.URL(r.database)
	if r.pool, err = pgxpool.New(ctx, url+"&application_name="+rigName); err != nil {
		return err
	}
	if r.providers, err = startProviders(filepath.Join(r.dir, "providers.jsonl"), r.plan, r.log); err != nil {
		return err
	}
	for _, target := range []string{r.providers.at.Twilio, r.providers.at.SMTP, r.providers.at.Webhook, r.providers.at.API, r.providers.at.OpenAI} {
		p, err := NewProxy(target)
		if err != nil {
			return err
		}
		r.before = append(r.before, p)
	}
	routes := filepath.Join(r.dir, "routes.yaml")
	if err := os.WriteFile(routes, routesFile, 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(r.state(), 0o700); err != nil {
		return err
	}
	r.producers = &producers{url: url + "&application_name=producer", webhook: r.before[2].Addr()}
	for i := range r.plan.Daemons {
		at, _ := r.world.database()
		p, err := NewProxy(at)
		if err != nil {
			return err
		}
		r.databases = append(r.databases, p)
		work := filepath.Join(r.dir, fmt.Sprintf("d%d", i))
		if err := os.Mkdir(work, 0o700); err != nil {
			return err
		}
		d := &daemon{number: i, dir: work, program: r.world.program, log: r.log, faults: r.faults, lease: r.plan.Lease, skew: r.plan.Skews[i],
			env: func(name string) []string { return r.environment(p, name) }}
		r.daemons = append(r.daemons, d)
	}
	for i, d := range r.daemons {
		d.mu.Lock()
		err := d.start(r.plan.First[i])
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// state is the state directory of all listeners.
func (r *run) state() string { return filepath.Join(r.dir, "state") }

// rigName is the application_name of the rig's own connections.
const rigName = "faultrig"

// environment is that of a listener.
func (r *run) environment(database *Proxy, name string) []string {
	_, parameters := r.world.database()
	return append(surroundings(),
		fmt.Sprintf("DATABASE_URL=postgres://postgres:%s@%s/%s?sslmode=disable&application_name=%s%s", passwordCanary, database.Addr(), r.database, name, parameters),
		"OUTBOX_POLL_INTERVAL_MS=200",
		"OUTBOX_LEASE="+r.plan.Lease.String(),
		"OUTBOX_MAX_CRASHES=0", // they are killed by chance, and no event is the reason
		"OUTBOX_BATCH_SIZE="+strconv.Itoa(r.plan.Batch),
		"OUTBOX_WORKERS="+strconv.Itoa(r.plan.Workers),
		"OUTBOX_RETAIN_PROCESSED=30d",
		"OUTBOX_ROUTES="+filepath.Join(r.dir, "routes.yaml"),
		"FAULTRIG_HOOK=http://"+r.before[2].Addr()+"/hook",
		"FAULTRIG_API=http://"+r.before[3].Addr()+"/v1/things",
		"OUTBOX_SHUTDOWN_GRACE="+grace.String(),
		"OUTBOX_STATE_DIR="+r.state(),
		"OPENAI_API_KEY="+openAIKey,
		"OPENAI_BASE_URL=http://"+r.before[len(channels)].Addr()+modelPath,
		"OUTBOX_LOG_FORMAT=json",
		"OUTBOX_LOG_LEVEL=info",
		"TWILIO_ACCOUNT_SID="+accountSID,
		"TWILIO_AUTH_TOKEN="+authToken,
		"TWILIO_FROM=+15005550006",
		"TWILIO_API_BASE_URL=http://"+r.before[0].Addr(),
		"SMTP_HOST=127.0.0.1",
		"SMTP_PORT="+strconv.Itoa(r.before[1].Port()),
		"SMTP_FROM=shop@example.com",
		"OUTBOX_WEBHOOK_SECRET="+webhookSecret,
		"OUTBOX_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8",
	)
}

// play has the producers insert and the faults happen.
func (r *run) play(ctx context.Context, begun time.Time) error {
	var wg sync.WaitGroup
	var produced error
	wg.Go(func() { produced = r.producers.run(ctx, begun, r.plan.Transactions) })
	errs := make(chan error, len(r.plan.Faults))
	for _, f := range r.plan.Faults {
		wg.Go(func() {
			sleep(ctx, time.Until(begun.Add(f.At)))
			if err := r.inflict(ctx, f); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for _, p := range slices.Concat(r.databases, r.before) {
		p.Heal()
	}
	return errors.Join(produced, <-errs)
}

// kept counts the files of outcomes that were put on record, by what the listeners
// said, and names those that were refused.
func (r *run) kept() (restored int, refused []string, err error) {
	text, err := os.ReadFile(filepath.Join(r.dir, "log.txt"))
	if err != nil {
		return 0, nil, err
	}
	files, err := filepath.Glob(filepath.Join(r.state(), "*.refused"))
	for _, f := range files {
		refused = append(refused, fmt.Sprintf("outcomes that were kept were refused: %s", filepath.Base(f)))
	}
	return bytes.Count(text, []byte(`"msg":"outcomes of an earlier stop are on record"`)), refused, err
}

// settle waits until nothing is left to do but what waits for a person. It
// returns how long that took after the last fault, and what was left when it gave
// up.
func (r *run) settle(ctx context.Context) (quiet time.Duration, left int, err error) {
	begun := time.Now()
	least, progress := math.MaxInt, begun // events left, and when they became fewer
	for {
		// Retries and looks wait for seconds and minutes, which is not what
		// this is about: their time has come.
		_, err = r.pool.Exec(ctx, hurry, r.plan.lookSpan().Seconds())
		if err == nil {
			err = r.pool.QueryRow(ctx, `select count(*) from outbox_events as e where processed_at is null
				and not exists (select from outbox.deliveries as d where d.event_id = e.id and d.state = 'held')`).Scan(&left)
		}
		end, open := r.faults.last()
		if end.Before(begun) {
			end = begun // what was healed
		}
		if err == nil && left < least {
			least, progress = left, time.Now()
		}
		switch {
		case err == nil && left == 0 && !open:
			return time.Since(end), 0, nil
		case ctx.Err() != nil:
			return 0, left, ctx.Err()
		case !open && time.Since(end) > patience && time.Since(progress) > patience:
			return time.Since(end), left, err
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// close ends everything that still runs, and removes the database.
func (r *run) close() error {
	var errs []error
	for _, d := range r.daemons {
		d.retire(0)
	}
	for _, p := range slices.Concat(r.databases, r.before) {
		errs = append(errs, p.Close())
	}
	if r.providers != nil {
		errs = append(errs, r.providers.stop())
	}
	if r.pool != nil {
		r.pool.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, r.world.exec(ctx, "postgres", "drop database if exists "+r.database+" with (force)"))
	}
	if r.log != nil {
		errs = append(errs, r.log.to.Close())
	}
	return errors.Join(errs...)
}

// syncWriter lets many write to one file. After the file is closed it takes
// everything and keeps nothing.
type syncWriter struct {
	mu sync.Mutex
	to io.WriteCloser
}

// Write implements io.Writer.
func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := append([]byte(time.Now().Format("15:04:05.000 ")), bytes.TrimRight(b, "\n")...)
	_, err := s.to.Write(append(line, '\n'))
	return len(b), err
}
