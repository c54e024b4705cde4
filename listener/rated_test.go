package listener_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// bySender is a provider that counts by who sends.
type bySender struct{ *provider }

func (bySender) RateKey(d *dispatch.Delivery) string { return string(d.Content) }

// TestRate: three listeners together begin no more attempts for one sender than the
// rate allows, each sender has its own, and a channel without a rate does not notice.
//
// The bound for a span of w, with t between two attempts: what fits into w, what slots
// are kept for (0.2 s) and what is made up for (0.5 s but for one t), so that here, with 20
// a second, no second has more than 34.
func TestRate(t *testing.T) {
	t.Parallel()
	const n, perSecond, most = 80, 20, 34
	db := pgtest.New(t)
	p, other := bySender{newProvider(nil)}, newProvider(nil)
	for range 3 {
		d := dispatch.New()
		channel(d, "a", "rated", p, provided)
		channel(d, "b", "other", other, provided)
		l := newListener(t, db, d, func(c *listener.Config) {
			c.PollInterval = 500 * time.Millisecond
			c.Rates = map[dispatch.Channel]listener.Rate{"rated": {Count: perSecond, Per: time.Second}}
		})
		start(t, l)
		listening(t, l)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', to_jsonb(i % 2) from generate_series(1, 2 * $1::integer) as i`, n)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'b', '{}' from generate_series(1, 100) as i`)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return other.count() == 100, fmt.Sprintf("%d of 100 without a rate", other.count())
	})
	if p.count() >= 2*n {
		t.Error("all are sent before those without a rate")
	}
	processed(t, db, 30*time.Second)

	bySender := map[string][]time.Time{}
	p.mu.Lock()
	for i, d := range p.sent {
		bySender[string(d.Content)] = append(bySender[string(d.Content)], p.at[i])
	}
	p.mu.Unlock()
	for sender, at := range bySender {
		slices.SortFunc(at, time.Time.Compare)
		if len(at) != n {
			t.Errorf("sender %s: %d sent", sender, len(at))
		}
		worst := 0
		for i := range at {
			in := 0
			for _, later := range at[i:] {
				if later.Sub(at[i]) < time.Second {
					in++
				}
			}
			worst = max(worst, in)
		}
		took := at[len(at)-1].Sub(at[0])
		t.Logf("sender %s: %d in %s, at most %d in a second", sender, len(at), took.Round(time.Millisecond), worst)
		if worst > most {
			t.Errorf("sender %s: %d in a second, at most %d", sender, worst, most)
		}
		if took > 4*n*time.Second/perSecond {
			t.Errorf("sender %s: it took %s", sender, took)
		}
	}
	if keys := pgtest.QueryVals[string](t, db, `select key from outbox.rates order by key`); !slices.Equal(keys, []string{"rated from 0", "rated from 1"}) {
		t.Errorf("rates are counted by %v", keys)
	}
}
