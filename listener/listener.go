// Package listener takes events from wake-up to acknowledged row: it is
// woken, claims what is there under a lease, has it dispatched by a bounded
// pool of workers, and records the outcome under a fence. It knows Postgres
// and no provider.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Config says where events come from and how many are worked on. Pool and
// Dispatcher are required; any other zero field takes its default.
type Config struct {
	Pool       *pgxpool.Pool // used for everything but LISTEN; at least 4 connections
	Dispatcher *dispatch.Dispatcher

	// Listen opens the LISTEN connection, which must not go through a
	// transaction pooler. nil means the same server as Pool.
	Listen *pgx.ConnConfig

	BatchSize     int             // most events of one claim; default 10
	Workers       int             // deliveries under way at once; default 32
	PollInterval  time.Duration   // between sweeps for what no notification announced; default 5 s
	Lease         time.Duration   // how long a claim lasts unless renewed; default 20 s, at least 1 s
	SQL           SQLConfig       // how the sql steps of routes run
	MaxAttempts   int             // attempts before a delivery is dead; default 12
	MaxCrashes    int             // listeners that end while they have an event before it is dead; default 3, at least 2; below 0 never
	AwaitReport   time.Duration   // how long what stands in for another delivery waits for word of that; default DefaultAwaitReport
	LookAfter     []time.Duration // when a provider is asked about a delivery of unknown outcome, from the first time on; default DefaultLookAfter
	MaxPayload    int             // bytes of JSON text; larger payloads are refused; default 1 MiB
	ShutdownGrace time.Duration   // for what is under way when the context ends; default 40 s

	// How long what is over is kept, on the database's clock. Negative
	// (Forever) deletes nothing. RetainProcessed needs the right to delete
	// from public.outbox_events.
	RetainProcessed time.Duration // processed events; default Forever
	RetainLedger    time.Duration // finished deliveries and their attempts; default 30 days

	// Rates are how fast attempts may begin on a channel, for each of its
	// destinations or senders (dispatch.Metered), of all listeners on the database that
	// are told the same. Channels without one are not held back.
	Rates map[dispatch.Channel]Rate

	// StateDir is a directory for what is sent and cannot be recorded at a stop, since
	// the database is away: it is in a file there, readable by its owner alone, until
	// the next start records it. Several listeners may have the same. "" keeps nothing:
	// then leases run out, and what was sent may be sent again.
	StateDir string

	// Redirect keeps what is sent away from those it is for. The zero value
	// changes nothing.
	Redirect dispatch.Redirect

	// SMS bounds how many go, and to which countries.
	SMS SMSLimits

	// Clock is set to the database's time by each sweep, the
	// first of which comes before anything is claimed. nil means one of its own.
	Clock *dispatch.Clock

	Log *slog.Logger // default slog.Default()
}

// Defaults of Config.
const (
	DefaultBatchSize     = 10
	DefaultWorkers       = 32
	DefaultPollInterval  = 5 * time.Second
	DefaultLease         = 20 * time.Second
	DefaultMaxAttempts   = 12
	DefaultMaxCrashes    = 3
	DefaultMaxPayload    = 1 << 20
	DefaultShutdownGrace = 40 * time.Second
	DefaultRetainLedger  = 30 * 24 * time.Hour
)

// DefaultAwaitReport is how long after a provider took a delivery its report may still
// have another one sent instead. Carriers report within hours, or never.
const DefaultAwaitReport = 24 * time.Hour

// DefaultLookAfter returns when a provider is asked whether it has a delivery of
// unknown outcome: at once, and twice more within a minute, since what it took may
// not be listed yet.
func DefaultLookAfter() []time.Duration {
	return []time.Duration{0, 20 * time.Second, time.Minute}
}

// Forever as a retention deletes nothing.
const Forever time.Duration = -1

func (c *Config) setDefaults() error {
	if c.Pool == nil || c.Dispatcher == nil {
		return errors.New("listener: Config needs a Pool and a Dispatcher")
	}
	orDefault(&c.BatchSize, DefaultBatchSize)
	orDefault(&c.Workers, DefaultWorkers)
	orDefault(&c.PollInterval, DefaultPollInterval)
	orDefault(&c.Lease, DefaultLease)
	orDefault(&c.MaxAttempts, DefaultMaxAttempts)
	orDefault(&c.MaxCrashes, DefaultMaxCrashes)
	orDefault(&c.MaxPayload, DefaultMaxPayload)
	orDefault(&c.ShutdownGrace, DefaultShutdownGrace)
	orDefault(&c.RetainProcessed, Forever)
	orDefault(&c.RetainLedger, DefaultRetainLedger)
	if c.BatchSize < 0 || c.Workers < 0 || c.PollInterval < 0 || c.MaxAttempts < 0 || c.MaxPayload < 0 || c.ShutdownGrace < 0 {
		return errors.New("listener: negative value in Config")
	}
	if c.MaxCrashes == 1 {
		return errors.New("listener: MaxCrashes is 1: what a listener had beside the one that brought it down would be dead, too")
	}
	if c.AwaitReport == 0 {
		c.AwaitReport = DefaultAwaitReport
	}
	if len(c.LookAfter) == 0 {
		c.LookAfter = DefaultLookAfter()
	}
	if !slices.IsSorted(c.LookAfter) || c.LookAfter[0] < 0 {
		return errors.New("listener: LookAfter has to be in order, and not negative")
	}
	if c.Lease < time.Second {
		return fmt.Errorf("listener: Lease is %s, must be at least 1 s: it is renewed three times before it ends", c.Lease)
	}
	switch mode := c.Pool.Config().ConnConfig.DefaultQueryExecMode; mode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return fmt.Errorf("listener: default_query_exec_mode=%s cannot carry our arrays; behind an old transaction pooler use cache_describe", mode)
	}
	if c.Listen == nil {
		c.Listen = c.Pool.Config().ConnConfig.Copy()
	}
	if c.Clock == nil {
		c.Clock = &dispatch.Clock{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Listener delivers events. Run it once, as a daemon with Run or until
// nothing is due with Once.
type Listener struct {
	cfg    Config
	log    *slog.Logger
	sparse *sparse
	store  storage

	queue     *queue
	leases    *leases
	marks     marks
	recorder  *recorder
	announcer *announcer
	waker     *waker // deaf in Once
	batch     batchLog
	database  string // which one it is, where there is a StateDir

	sql       atomic.Pointer[SQLConfig]
	paused    hearsay
	brakes    *brakes
	recovery  recovery
	lane      lane
	absences  absences
	absent    *batcher[*event] // what is put off
	hasten    hasten
	lines     lines
	fenced    atomic.Int64 // outcomes that came after a take-over
	lastSweep atomic.Int64 // Unix nanoseconds
	released  atomic.Bool  // a delivery of ours made others due

	dueMu   sync.Mutex
	made    bool          // something was made due since due was last forgotten
	due     time.Time     // when the next delivery is due, as far as we know; zero: none
	dueWait time.Duration // how long it was last put off because it could not be had
	dueC    chan struct{}

	restoring sync.WaitGroup // outcomes of an earlier stop whose rows are locked
	running   atomic.Bool
	patient   bool          // it runs until it is told to stop, and waits for the database
	stopping  atomic.Bool   // nothing is begun any more
	taken     chan struct{} // closed when what was not begun by then has been taken out
	claims    claims
	ended     chan struct{} // closed when Run or Once is over
}

// New returns a Listener. It does not touch the database yet.
func New(cfg Config) (*Listener, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	l := newListener(cfg, &store{pool: cfg.Pool, lease: cfg.Lease, maxPayload: cfg.MaxPayload, clock: cfg.Clock})
	l.waker = newWaker(cfg.Listen, cfg.Pool, l.log, l.sparse)
	l.waker.told = l.lines.told
	return l, nil
}

// newListener is a Listener on s that hears no notification.
func newListener(cfg Config, s storage) *Listener {
	l := &Listener{
		cfg:    cfg,
		log:    cfg.Log,
		sparse: newSparse(cfg.Log),
		store:  s,
		queue:  newQueue(cfg.Workers, cfg.BatchSize),
		brakes: newBrakes(),
		dueC:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
	l.store.onRead(l.brakes)
	l.SetSQL(cfg.SQL)
	l.paused.now.Store(new(pauses))
	l.lines.news, l.lines.told = make(chan struct{}, 1), make(chan struct{}, 1)
	l.lane.more, l.lane.lives = make(chan struct{}, 1), make(chan struct{}, 1)
	l.hasten.types, l.hasten.wake = map[string]*hastening{}, make(chan struct{}, 1)
	l.batch.log = cfg.Log
	l.taken = make(chan struct{})
	l.waker = &waker{C: make(chan struct{}, 1), beatNow: make(chan struct{}, 1)}
	l.leases = &leases{store: l.store, log: cfg.Log, sparse: l.sparse, all: map[*lease]struct{}{}}
	l.leases.forParking, l.leases.forBrakes, l.marks.moved = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	l.leases.tookOver = func(ids []uuid.UUID) { l.alive(ids...) }
	return l
}

// Run delivers events until ctx ends, then stops claiming, finishes what is
// being sent within the grace period, gives back the rest uncounted, and
// returns nil. While the database is away it waits for it.
func (l *Listener) Run(ctx context.Context) error {
	return l.run(ctx, true, func(ctx context.Context) error {
		var wg sync.WaitGroup
		wg.Go(func() { l.waker.run(ctx) })
		wg.Go(func() { l.prune(ctx) })
		err := l.drive(ctx)
		wg.Wait()
		return err
	})
}

// Once delivers what is due, at most limit events (0 means all), and returns
// what became of them. It uses the same leases as any other listener, so that
// several may run at once and share the work. A nil error with Stats.Errors
// above 0 means that it ran and that some events were not delivered.
func (l *Listener) Once(ctx context.Context, limit int) (Stats, error) {
	t := newTally()
	err := l.run(ctx, false, func(ctx context.Context) error {
		for left := limit; ; left = limit - t.snapshot().Total {
			l.healLines(ctx)
			if err := l.claimFor(ctx, left, t); err != nil && ctx.Err() == nil {
				return err
			}
			select {
			case <-t.settled():
			case <-ctx.Done(): // asked to stop: what was begun is finished below
				return nil
			}
			l.passTurns(ctx, nil)
			// What was delivered may have made due what waited for it.
			if l.released.Swap(false) && (limit == 0 || t.snapshot().Total < limit) {
				continue
			}
			l.pruneBriefly(ctx)
			return nil
		}
	})
	return t.snapshot(), err
}

// run starts everything, lets drive claim until it returns, and stops in
// order. patient says whether it waits for the database.
func (l *Listener) run(ctx context.Context, patient bool, drive func(context.Context) error) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("listener: already running, or run before")
	}
	defer close(l.ended)
	l.patient = patient
	l.store.onDue(func() {
		l.released.Store(true)
		l.noteMadeDue()
	})
	restoring, stopRestoring := context.WithCancel(ctx)
	defer l.restoring.Wait()
	defer stopRestoring()
	if err := l.restore(restoring, patient); err != nil {
		return err
	}
	// Three lifetimes: claiming ends with ctx; working ends with the grace
	// period; recording ends a little later, so that what was sent is
	// written down.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	defer context.AfterFunc(ctx, func() { l.stopping.Store(true) })()
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecording()

	l.recorder = newRecorder(recording, l.store, l.log, l.recorded)
	l.recorder.thaw = l.thaw
	l.recorder.pass = l.passTurnsSoon
	l.announcer = newAnnouncer(recording, l.store, l.log)
	l.absent = l.newAbsent(recording)

	// What is about outcomes ends at once with recording, and what is left then is kept
	// in a file before the others are waited for: a database that hangs may keep those.
	var recorders, keepers sync.WaitGroup
	recorders.Go(func() { l.recorder.run(recording) })
	recorders.Go(func() { l.announcer.run(recording) })
	recorders.Go(func() { l.leases.keep(recording) })
	recorders.Go(func() { l.parkSlow(recording) })
	keepers.Go(func() { l.keepAlive(recording) })
	keepers.Go(func() { l.keepBrakes(recording) })
	keepers.Go(func() { l.keepRates(recording) })
	keepers.Go(func() { l.keepMarks(recording) })
	keepers.Go(func() { l.keepLines(recording) })
	keepers.Go(func() { l.absent.run(recording) })
	keepers.Go(func() { l.keepHaste(recording) })

	var workers errgroup.Group
	for range l.cfg.Workers {
		workers.Go(func() error { return l.worker(working) })
	}

	claiming, stopClaiming := context.WithCancel(ctx)
	defer stopClaiming()
	l.claims.begin(claiming)
	// A panic in a goroutine of its own ends the process at once. Here it would
	// go up through all that is deferred, and what that waits for may never
	// come: a connection that the panic has left in use, say.
	var err error
	var driving sync.WaitGroup
	driving.Go(func() { err = drive(ctx) })
	var trials sync.WaitGroup
	trials.Go(func() { l.runLane(claiming) })
	driving.Wait()

	stopClaiming()
	trials.Wait()
	l.claims.end()
	l.drainPool(stopWorking)
	stopWorking()
	ended := make(chan struct{})
	go func() {
		_ = workers.Wait() // a worker returns no error
		close(ended)
	}()
	awaitWorkers(ended)
	stopRecording() // which those have waited for that had something to announce
	recorders.Wait()
	if !awaitWorkers(ended) {
		l.log.Error("stopped beside a sender or handler that does not heed its context", "open", l.queue.holds())
	}
	l.keepLeftover()
	keepers.Wait()
	l.batch.end()
	return err
}

// Health is what a probe wants to know.
type Health struct {
	Listening bool      // notifications arrive; otherwise the sweep finds the events
	LastSweep time.Time // zero before the first one
	Held      int       // events and deliveries under this listener's leases
	Fenced    int64     // outcomes that came after a take-over, since the start
}

// Health reports how the listener is doing.
func (l *Listener) Health() Health {
	h := Health{Listening: l.waker.listening(), Held: l.queue.leased(), Fenced: l.fenced.Load()}
	if ns := l.lastSweep.Load(); ns != 0 {
		h.LastSweep = time.Unix(0, ns)
	}
	return h
}
