package operate_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// kim is who operates.
var kim = operate.By{Who: "kim", Via: "command", Origin: "desk", Reason: "fixed"}

// provider is a Sender that remembers what it was given and answers as told.
type provider struct {
	answer func(d *dispatch.Delivery) error // nil takes everything

	mu   sync.Mutex
	sent []dispatch.Delivery
}

func (p *provider) Send(_ context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	if p.answer != nil {
		if err := p.answer(d); err != nil {
			return dispatch.Receipt{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, *d)
	return dispatch.Receipt{}, nil
}

// taken counts, by delivery, what it took.
func (p *provider) taken() map[uuid.UUID]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[uuid.UUID]int{}
	for _, d := range p.sent {
		out[d.ID]++
	}
	return out
}

func rejected(*dispatch.Delivery) error {
	return &dispatch.Error{Channel: "carrier", Kind: dispatch.Rejected, Err: context.Canceled}
}

func down(*dispatch.Delivery) error {
	return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, Err: context.DeadlineExceeded}
}

// world is a database, and a listener that sends its events of type quote.sent
// by one provider.
type world struct {
	t  testing.TB
	db *pgtest.DB
	p  *provider
	o  *operate.Operator
}

func newWorld(t testing.TB, answer func(*dispatch.Delivery) error) *world {
	t.Helper()
	db := pgtest.New(t)
	return &world{t, db, &provider{answer: answer}, operate.New(db.Pool)}
}

// listener is a new one.
func (w *world) listener(policy dispatch.Policy) *listener.Listener {
	w.t.Helper()
	d := dispatch.New()
	d.Register("carrier", w.p, policy)
	for _, typ := range []string{"quote.sent", "quote.lost", "visit.due"} {
		d.Route(typ, func(_ context.Context, ev dispatch.Event) []dispatch.Message {
			return []dispatch.Message{{Route: "test", Step: "tell", Channel: "carrier", Recipient: "kim", Content: ev.Payload}}
		})
	}
	pc, err := pgxpool.ParseConfig(w.db.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	pc.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(pool.Close)
	l, err := listener.New(listener.Config{Pool: pool, Dispatcher: d, PollInterval: 200 * time.Millisecond, ShutdownGrace: 5 * time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// once has a listener deliver what is due.
func (w *world) once() {
	w.t.Helper()
	if _, err := w.listener(dispatch.Policy{}).Once(w.t.Context(), 0); err != nil {
		w.t.Fatal(err)
	}
}

// start runs a listener until the test ends, or the returned function was called.
func (w *world) start(policy dispatch.Policy) (stop func()) {
	l := w.listener(policy)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("Run: %v", err)
			}
		})
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) insert(n int, typ string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.db, `insert into outbox_events (type, payload) select $1, jsonb_build_object('n', n) from generate_series(1, $2::integer) as n`, typ, n)
}

func (w *world) count(where string) int {
	w.t.Helper()
	return pgtest.QueryVal[int](w.t, w.db, `select count(*) from outbox.deliveries where `+where)
}

// await waits until that many deliveries are so.
func (w *world) await(n int, where string) {
	w.t.Helper()
	pgtest.Eventually(w.t, 10*time.Second, func() (bool, string) {
		got := pgtest.QueryVals[string](w.t, w.db, `select state || ' ' || count(*) from outbox.deliveries group by state`)
		return w.count(where) == n, where + ": " + joined(got)
	})
}

func joined(list []string) (s string) {
	for _, l := range list {
		s += l + ", "
	}
	return s
}

func (w *world) do(r operate.Request) operate.Result {
	w.t.Helper()
	if r.By == (operate.By{}) {
		r.By = kim
	}
	res, err := w.o.Do(w.t.Context(), r)
	if err != nil {
		w.t.Fatalf("%s: %v", r.Action, err)
	}
	return res
}
