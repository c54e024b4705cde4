package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// Labels of the scenario.
const (
	idleOurs     = ours + ", idle, p50"
	idleSum      = "bare NOTIFY and bare POST, p50 each, summed"
	idleAnswered = "the same, NOTIFY from its own answer"
	loadedOurs   = ours + ", 500/s, p99"
	loadedPeer   = ", 500/s, p99" // of a River
)

// latency measures from COMMIT to the first byte at the receiver: one event at
// a time on a quiet system, and many from an open loop.
func latency(ctx context.Context, r *run, res *result) error {
	alone := pick(r, 300, 40)
	const rate = 500
	count := pick(r, 5, 1) * rate
	res.note("Idle: %d events, from when COMMIT had returned to the first byte of the request at the receiver. In turn with each, with 20–60 ms before each of the three: a NOTIFY, from before it is sent by one session to when another has it; and a POST over a connection that is open, from before it is sent to its first byte at the receiver. The way of the NOTIFY to the server and its commit are in the round trip, those of the event are over when its COMMIT has returned: so there is a ratio too to the NOTIFY from when its own session had the answer, 0 where it had been received by then.", alone)
	res.note("Under load: %d events, each in a transaction of its own, %d a second at fixed times whatever becomes of the earlier ones.", count, rate)
	loaded := func(p50, p99 string, took []float64, err error) error {
		if err != nil {
			return err
		}
		res.detail(p50, "ms", median(took))
		res.add(p99, "ms", percentile(took, 99))
		return nil
	}
	variants := []func() error{
		func() error { return r.latencyIdle(ctx, res, alone) },
		func() error {
			took, err := r.latencyLoaded(ctx, rate, count)
			return loaded(ours+", 500/s, p50", loadedOurs, took, err)
		},
	}
	for _, name := range []string{river, riverGentle} {
		if p := r.peer(name); p != nil {
			variants = append(variants, func() error {
				return withSink(count+1, func(to *sink) error { // its numbers may begin with 1
					took, err := p.latencies(ctx, r.server, to, rate, count)
					return loaded(name+", 500/s, p50", name+loadedPeer, took, err)
				})
			})
		}
	}
	for round := range r.Rounds {
		for _, measure := range inTurn(round, variants) {
			if err := measure(); err != nil {
				return err
			}
		}
	}
	res.atMost("idle: listener / (NOTIFY + POST), p50", "x", 1.5, ratios(res.values(idleOurs), res.values(idleSum)))
	res.each("idle: listener / (NOTIFY from its own answer + POST), p50", "x", ratios(res.values(idleOurs), res.values(idleAnswered)))
	res.atMost("500 inserts/s: listener / the faster River, p99", "x", 1.0/3, ratios(res.values(loadedOurs), smaller(res.values(river+loadedPeer), res.values(riverGentle+loadedPeer))))
	return nil
}

// latencyIdle measures count events, notifications and posts in turn.
func (r *run) latencyIdle(ctx context.Context, res *result, count int) error {
	return r.receiving(ctx, 2*count, func(db *database, to *sink) error { return r.latencyAlone(ctx, res, count, db, to) })
}

func (r *run) latencyAlone(ctx context.Context, res *result, count int, db *database, to *sink) error {
	apart, err := r.server.empty(ctx) // a NOTIFY disturbs whoever listens in the same database
	if err != nil {
		return err
	}
	defer apart.drop()
	bare, err := openNotifier(ctx, apart)
	if err != nil {
		return err
	}
	defer bare.close()
	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	d, err := r.launchAsleep(ctx, db, nil)
	if err != nil {
		return err
	}
	defer d.stop()

	client := &http.Client{}
	defer client.CloseIdleConnections()
	var events, notes, posts, answered []float64
	for i := range count {
		if err := d.pause(ctx, aWhile()); err != nil {
			return err
		}
		committed, err := commitWebhook(ctx, conn, to.url(), i, 0)
		if err != nil {
			return err
		}
		at, err := to.await(ctx, d, i, time.Minute)
		if err != nil {
			return err
		}
		events = append(events, ms(at.Sub(committed)))

		if err := d.pause(ctx, aWhile()); err != nil {
			return err
		}
		note, rest, err := bare.roundTrip(ctx)
		if err != nil {
			return err
		}
		notes, answered = append(notes, ms(note)), append(answered, ms(rest))

		if err := d.pause(ctx, aWhile()); err != nil {
			return err
		}
		sent := time.Now()
		if err := post(client, to.url(), fmt.Appendf(nil, `{"n": %d}`, count+i)); err != nil {
			return err
		}
		if at, err = to.await(ctx, d, count+i, time.Minute); err != nil {
			return err
		}
		posts = append(posts, ms(at.Sub(sent)))
	}
	res.add(idleOurs, "ms", median(events))
	res.add(idleSum, "ms", median(notes)+median(posts))
	res.detail(ours+", idle, p99", "ms", percentile(events, 99))
	res.detail("bare NOTIFY, p50", "ms", median(notes))
	res.detail("bare POST, p50", "ms", median(posts))
	res.add(idleAnswered, "ms", median(answered)+median(posts))
	return nil
}

// aWhile is a time from 20 to 60 ms.
func aWhile() time.Duration { return 20*time.Millisecond + rand.N(40*time.Millisecond) }

func post(client *http.Client, url string, body []byte) error {
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// A notifier is two sessions of which one notifies the other.
type notifier struct {
	from, to *pgx.Conn
	got      chan time.Time
}

func openNotifier(ctx context.Context, db *database) (*notifier, error) {
	n := &notifier{got: make(chan time.Time, 1)}
	var err error
	if n.from, err = pgx.Connect(ctx, db.url); err != nil {
		return nil, err
	}
	if n.to, err = pgx.Connect(ctx, db.url); err == nil {
		_, err = n.to.Exec(ctx, "listen bare")
	}
	if err != nil {
		n.from.Close(ctx)
		return nil, err
	}
	go func() {
		for {
			_, err := n.to.WaitForNotification(ctx)
			if err != nil {
				close(n.got)
				return
			}
			n.got <- time.Now()
		}
	}()
	return n, nil
}

// roundTrip returns the time from before a NOTIFY to when it was received, and what of that came after
// its own session had the answer.
func (n *notifier) roundTrip(ctx context.Context) (took, rest time.Duration, err error) {
	sent := time.Now()
	if _, err := n.from.Exec(ctx, "select pg_notify('bare', '')"); err != nil {
		return 0, 0, err
	}
	answered := time.Now()
	select {
	case at, ok := <-n.got:
		if !ok {
			return 0, 0, errors.New("the session that listens has ended")
		}
		return at.Sub(sent), max(at.Sub(answered), 0), nil
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
}

func (n *notifier) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n.from.Close(ctx)
	n.to.PgConn().Conn().Close() // its reader is waiting
}

// latencyLoaded returns the latency of count events inserted at rate a second,
// in ms.
func (r *run) latencyLoaded(ctx context.Context, rate, count int) (took []float64, err error) {
	err = r.receiving(ctx, count, func(db *database, to *sink) error {
		took, err = r.latencyPaced(ctx, rate, count, db, to)
		return err
	})
	return took, err
}

func (r *run) latencyPaced(ctx context.Context, rate, count int, db *database, to *sink) ([]float64, error) {
	d, err := r.launchAsleep(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	defer d.stop()

	committed := make([]time.Time, count)
	err = db.paced(ctx, rate, count, func(conn *pgx.Conn, n int) (err error) {
		committed[n], err = commitWebhook(ctx, conn, to.url(), n, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := db.drained(ctx, d); err != nil {
		return nil, err
	}
	if err := to.complete(count); err != nil {
		return nil, err
	}
	took := make([]float64, count)
	for n := range took {
		took[n] = ms(to.arrived(n).Sub(committed[n]))
	}
	return took, nil
}
