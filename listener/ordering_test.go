package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// keyed is a router that puts all events in order by the key of their payload.
type keyed struct{ router }

// Ordered implements dispatch.Orderer.
func (keyed) Ordered() []string { return []string{"ordered.*"} }

// inOrder plans each event as one delivery, in order by payload.key where it has one.
func inOrder(s dispatch.Sender) *dispatch.Dispatcher {
	d := dispatch.New()
	d.Register("carrier", s, dispatch.Policy{})
	d.Use(keyed{router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		var p struct{ Key string }
		if err := json.Unmarshal(ev.Payload, &p); err != nil {
			return nil, err
		}
		return []dispatch.Message{{Route: "r", Step: "s", Channel: "carrier", Recipient: "+15005550006", Content: json.RawMessage(ev.Payload),
			Terms: &dispatch.Terms{Freeze: true, Ordering: p.Key, Retry: dispatch.Retries{First: time.Millisecond, Longest: 50 * time.Millisecond}}}}, nil
	}}})
	return d
}

// witness is a Sender that takes a while, and watches the order by key.
type witness struct {
	answer func(key string, n int) error // nil takes everything
	slow   bool

	mu      sync.Mutex
	flying  map[string]int // by key, the n of the event
	took    map[string]int // by key, the n of the last event that was taken
	total   int
	strange []string
}

func newWitness() *witness {
	return &witness{flying: map[string]int{}, took: map[string]int{}}
}

// Send implements dispatch.Sender.
func (w *witness) Send(_ context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	var p struct {
		Key string
		N   int
	}
	if err := json.Unmarshal(d.Content, &p); err != nil {
		return dispatch.Receipt{}, err
	}
	w.mu.Lock()
	if n, flies := w.flying[p.Key]; flies {
		w.strange = append(w.strange, fmt.Sprintf("%s: %d began while %d was under way", p.Key, p.N, n))
	}
	if p.N < w.took[p.Key] {
		w.strange = append(w.strange, fmt.Sprintf("%s: %d began after %d was taken", p.Key, p.N, w.took[p.Key]))
	}
	w.flying[p.Key] = p.N
	w.mu.Unlock()
	if w.slow {
		time.Sleep(rand.N(5 * time.Millisecond)) // it is a slow provider
	}
	var err error
	if w.answer != nil {
		err = w.answer(p.Key, p.N)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flying, p.Key)
	if err != nil {
		return dispatch.Receipt{}, err
	}
	w.took[p.Key] = max(w.took[p.Key], p.N)
	w.total++
	return dispatch.Receipt{}, nil
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

func (w *witness) blameless(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.strange {
		if i == 10 {
			break
		}
		t.Error(s)
	}
}

func insertKeyed(t testing.TB, db *pgtest.DB, key string, n int) uuid.UUID {
	t.Helper()
	return insert(t, db, "ordered.s", fmt.Sprintf(`{"key": %q, "n": %d}`, key, n))
}

// downAtTimes is an answer of a witness that fails one time in ten.
func downAtTimes(string, int) error {
	if rand.N(10) == 0 {
		return down()
	}
	return nil
}

func down() error {
	return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, Err: fmt.Errorf("away")}
}

// TestOneAfterTheOther: three listeners, eight keys of forty events each, a provider that
// takes a while and sometimes fails.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWitness()
	w.slow = true
	w.answer = downAtTimes
	for range 3 {
		start(t, newListener(t, db, inOrder(w), func(c *listener.Config) { c.MaxAttempts = 100 }))
	}
	const keys, events = 8, 40
	for n := 1; n <= events; n++ {
		for k := range keys {
			insertKeyed(t, db, fmt.Sprintf("k%d", k), n)
		}
	}
	pgtest.Drains(t, 20*time.Second, "deliveries to be taken", func() int { return keys*events - w.count() })
	w.blameless(t)
}

// TestGiantKey: two thousand events of one key, whose turn passes without waiting for a
// sweep. How fast is in the log: it is the machine's to say.
func TestGiantKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWitness()
	pgtest.Exec(t, db, `insert into public.outbox_events (type, payload)
		select 'ordered.s', json_build_object('key', 'giant', 'n', n)::jsonb from generate_series(1, 2000) as n order by n`)
	begun := time.Now()
	start(t, newListener(t, db, inOrder(w), func(c *listener.Config) { c.BatchSize, c.PollInterval, c.Lease = 100, time.Hour, time.Hour }))
	pgtest.Drains(t, 3*time.Second, "deliveries to be taken", func() int { return 2000 - w.count() })
	t.Logf("%.0f a second", 2000/time.Since(begun).Seconds())
	w.blameless(t)
}
