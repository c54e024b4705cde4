package listener_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(killedURL); url != "" {
		if api := os.Getenv(killedTwilio); api != "" {
			os.Exit(runSMS(url, api))
		}
		if address := os.Getenv(killedInOrder); address != "" {
			os.Exit(runInOrder(url, address))
		}
		if where := os.Getenv(killedBy); where != "" {
			os.Exit(runPoison(url, where))
		}
		os.Exit(runKilled(url)) // a listener that a test kills
	}
	// These tests wait more than they compute: more of them at once than
	// there are processors. -parallel on the command line still wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(pgtest.Main(m))
}

// provider is a Sender that remembers what it was given and answers as told.
type provider struct {
	answer func(d *dispatch.Delivery) error // nil takes everything

	mu   sync.Mutex
	sent []dispatch.Delivery
	at   []time.Time
	news chan struct{}
}

func newProvider(answer func(d *dispatch.Delivery) error) *provider {
	return &provider{answer: answer, news: make(chan struct{}, 1)}
}

func (p *provider) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	p.mu.Lock()
	p.sent = append(p.sent, *d)
	p.at = append(p.at, time.Now())
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
	if p.answer != nil {
		if err := p.answer(d); err != nil {
			return dispatch.Receipt{}, err
		}
	}
	return dispatch.Receipt{ProviderID: "taken-" + d.ID.String()[:13]}, nil
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent)
}

// byEvent counts what was sent for each event.
func (p *provider) byEvent() map[uuid.UUID]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[uuid.UUID]int{}
	for _, d := range p.sent {
		out[d.EventID]++
	}
	return out
}

// channel plans events of one type as one delivery on one channel.
func channel(d *dispatch.Dispatcher, typ string, ch dispatch.Channel, s dispatch.Sender, p dispatch.Policy) {
	d.Register(ch, s, p)
	d.Route(typ, func(_ context.Context, ev dispatch.Event) []dispatch.Message {
		return []dispatch.Message{{Route: "test", Step: string(ch), Channel: ch, Recipient: "+15005550006", Content: ev.Payload}}
	})
}

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// newListener makes a listener on db, with a pool of its own.
func newListener(t testing.TB, db *pgtest.DB, d *dispatch.Dispatcher, change func(*listener.Config)) *listener.Listener {
	t.Helper()
	pc, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	pc.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(t.Context(), pc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	cfg := listener.Config{Pool: pool, Dispatcher: d, Log: quiet(), ShutdownGrace: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	t.Cleanup(func() { stuckNoted(t, db) })
	l, err := listener.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stuckNoted: the index of what is dead or held has exactly that.
func stuckNoted(t testing.TB, db *pgtest.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var odd []string
	if err := db.Pool.QueryRow(ctx, `select array_agg(event_type || ' ' || step || ' ' || state || ' ' || coalesce(stuck_at::text, 'null'))
		from outbox.deliveries where (state in ('dead', 'held')) <> (stuck_at is not null)`).Scan(&odd); err != nil {
		t.Logf("the database is gone: %v", err) // some tests stop it
	}
	for _, one := range odd {
		t.Errorf("stuck_at does not say whether it is dead or held: %s", one)
	}
}

// start runs a listener until the returned function is called, which waits
// for it; the test's end calls it too.
func start(t testing.TB, l *listener.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// listening waits until notifications arrive and the first sweep is over.
func listening(t testing.TB, l *listener.Listener) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		h := l.Health()
		return h.Listening && !h.LastSweep.IsZero(), "not listening yet"
	})
}

func insert(t testing.TB, db *pgtest.DB, typ, payload string) uuid.UUID {
	t.Helper()
	return pgtest.QueryVal[uuid.UUID](t, db, `insert into outbox_events (type, payload) values ($1, $2::jsonb) returning id`, typ, payload)
}

// processed waits until no event is without processed_at.
func processed(t testing.TB, db *pgtest.DB, within time.Duration) {
	t.Helper()
	pgtest.Eventually(t, within, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
		return n == 0, "events without processed_at remain"
	})
}

// ledger is what the ledger has of the only delivery of an event.
type ledger struct {
	State    string
	Attempts int
	Error    string
	Due      bool
}

func ledgerOf(t testing.TB, db *pgtest.DB, event uuid.UUID) ledger {
	t.Helper()
	var l ledger
	err := db.Pool.QueryRow(t.Context(), `select state, attempts, coalesce(last_error, ''), due_at is not null
		from outbox.deliveries where event_id = $1`, event).Scan(&l.State, &l.Attempts, &l.Error, &l.Due)
	if err != nil {
		t.Fatalf("ledger of %s: %v", event, err)
	}
	return l
}

// asleep waits until a listener holds the gate: it looks again only when it is
// woken or sweeps.
func asleep(t testing.TB, db *pgtest.DB) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		locks := pgtest.QueryVal[int](t, db, `select count(*) from pg_locks where locktype = 'advisory' and granted
			and database = (select oid from pg_database where datname = current_database()) and mode = 'ExclusiveLock'`)
		return locks == 2, fmt.Sprintf("%d advisory locks", locks) // the gate and its ownership
	})
}
