package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/sql"
)

// A claimLog reads from the server's log how long the listener's own claims
// took in the server. It is where a private server writes its log to.
type claimLog struct {
	mu   sync.Mutex
	part []byte // a line that has not ended yet
	all  []claimTime
}

// claimTime is one claim.
type claimTime struct {
	at   time.Time // when the log was read
	took float64   // ms
}

// claimText is how the claim begins, up to the end of its first line: that is
// how it stands in the log.
var claimText = []byte(": " + firstLine(sql.Query("claim_events")))

func firstLine(s string) string {
	for i := range s {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}

// Write implements io.Writer.
func (c *claimLog) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.part = append(c.part, b...)
			return n, nil
		}
		line := b[:i]
		if len(c.part) > 0 {
			line = append(c.part, line...)
			c.part = c.part[:0]
		}
		if took, ok := claimDuration(line); ok {
			c.all = append(c.all, claimTime{time.Now(), took})
		}
		b = b[i+1:]
	}
}

// claimDuration reads "… duration: 0.123 ms  execute name: -- Claim: …".
func claimDuration(line []byte) (float64, bool) {
	if !bytes.HasSuffix(line, claimText) {
		return 0, false
	}
	_, rest, ok := bytes.Cut(line, []byte("duration: "))
	if !ok {
		return 0, false
	}
	took, rest, ok := bytes.Cut(rest, []byte(" ms  "))
	if !ok || !bytes.HasPrefix(rest, []byte("execute ")) {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(took), 64)
	return v, err == nil
}

// between returns what the claims took that ended from then to until, in ms.
func (c *claimLog) between(from, until time.Time) []float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []float64
	for _, t := range c.all {
		if !t.at.Before(from) && t.at.Before(until) {
			out = append(out, t.took)
		}
	}
	return out
}

// claimWatch gathers how long claims on one database take.
type claimWatch struct {
	log  *claimLog
	stop func()
}

// claimMethod says in a report how claims were timed.
func claimMethod(s *server) string {
	if s.claims != nil {
		return "Claim latency: how long the listener's own claims took in the server, from its log (log_min_duration_statement=0 for the database)."
	}
	return "Claim latency: the server's log is not ours to read, so the same claim from the floor, in a transaction that is rolled back, every 20 ms."
}

// watchClaims begins to time the claims of listeners that connect to db from
// now on.
func watchClaims(ctx context.Context, db *database) (*claimWatch, error) {
	if db.server.claims != nil {
		err := db.server.exec(ctx, "alter database "+db.name+" set log_min_duration_statement = 0")
		return &claimWatch{db.server.claims, func() {}}, err
	}
	w := &claimWatch{log: &claimLog{}}
	probing, cancel := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() {
		for probing.Err() == nil {
			if took, err := claimProbe(probing, db, 10); err == nil {
				w.log.mu.Lock()
				w.log.all = append(w.log.all, claimTime{time.Now(), ms(took)})
				w.log.mu.Unlock()
			}
			select {
			case <-probing.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	w.stop = func() { cancel(); probe.Wait() }
	return w, nil
}

// claimProbe times one claim of up to limit events from the floor, as a sweep
// makes it, and takes it back.
func claimProbe(ctx context.Context, db *database, limit int) (took time.Duration, err error) {
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var floor int64
		_, err := tx.Exec(ctx, `select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
			set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)`)
		if err == nil {
			err = tx.QueryRow(ctx, `select floor from outbox.state`).Scan(&floor)
		}
		if err != nil {
			return err
		}
		begun := time.Now()
		if _, err := tx.Exec(ctx, sql.Query("claim_events"), floor, int64(1<<62), limit, 20.0, []uuid.UUID{uuid.New()}, 64<<10); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		took = time.Since(begun)
		return errTakenBack
	})
	if err == errTakenBack {
		err = nil
	}
	return took, err
}

var errTakenBack = fmt.Errorf("taken back")
