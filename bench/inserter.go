package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// insertOne inserts webhook number $2, which goes to $1.
const insertOne = `insert into public.outbox_events (type, payload)
	values ('webhook.send', jsonb_build_object('url', $1::text, 'body', jsonb_build_object('n', $2::int)))`

// insertWebhook inserts one webhook with that number.
func (db *database) insertWebhook(ctx context.Context, url string, n int) error {
	return db.exec(ctx, insertOne, url, n)
}

// commitWebhook inserts one webhook in a transaction of its own, holds that
// open for a while, and returns when COMMIT had returned.
func commitWebhook(ctx context.Context, conn *pgx.Conn, url string, n int, hold time.Duration) (time.Time, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := tx.Exec(ctx, insertOne, url, n); err != nil {
		return time.Time{}, errors.Join(err, tx.Rollback(ctx))
	}
	if hold > 0 {
		time.Sleep(hold)
	}
	err = tx.Commit(ctx)
	return time.Now(), err
}

// inserters is how many sessions insert in an open loop: enough that none is
// late because another waits for its commit.
const inserters = 8

// paced calls insert for the numbers from 0 to count-1, rate a second at fixed times whatever
// becomes of the earlier ones, on one of several connections.
func (db *database) paced(ctx context.Context, rate, count int, insert func(conn *pgx.Conn, n int) error) error {
	turns := make(chan int, count) // a late inserter does not hold the clock up
	errs := make([]error, inserters)
	var work sync.WaitGroup
	for w := range inserters {
		work.Go(func() {
			errs[w] = withConn(ctx, db.url, func(conn *pgx.Conn) error {
				for n := range turns {
					if err := insert(conn, n); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	begun := time.Now().Add(100 * time.Millisecond) // when all are connected
	for n := range count {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		turns <- n
	}
	close(turns)
	work.Wait()
	return errors.Join(errs...)
}

// errLate says that something did not arrive while it was waited for.
var errLate = errors.New("did not arrive in time")

// await waits for number n, the only one that is under way, and returns when
// it came.
func (s *sink) await(ctx context.Context, d *daemon, n int, atMost time.Duration) (time.Time, error) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case got := <-s.C:
		if got != n {
			return time.Time{}, fmt.Errorf("number %d arrived, waiting for %d", got, n)
		}
		return s.arrived(n), nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	case <-d.ended:
		return time.Time{}, fmt.Errorf("the listener ended by itself: %s", d.output)
	case <-timer.C:
		return time.Time{}, fmt.Errorf("number %d %w (%s)", n, errLate, atMost)
	}
}
