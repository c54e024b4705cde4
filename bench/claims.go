package bench

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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
	last map[string]lastClaim // for each session, until its parameters came
}

// lastClaim is the last claim of a session.
type lastClaim struct {
	at   int // of all
	text claimText
}

// claimTime is one claim.
type claimTime struct {
	at    time.Time // when the log was read
	took  float64   // ms
	claim uuid.UUID // the fence, of several the first; zero where the log did not tell
	found bool      // it brought something; known at once of our own probes only
}

// claimParameter is the length to which the log has to give parameters: an
// array with one uuid in it.
const claimParameter = len("{00000000-0000-0000-0000-000000000000}")

func newClaimLog() *claimLog { return &claimLog{last: map[string]lastClaim{}} }

// A claimText is how one of the statements that claim begins, up to the end of its first line: that is
// how it stands in the log. Which parameter has the fences goes by the statement.
type claimText struct{ begins, fences []byte }

var claimTexts = []claimText{
	{[]byte(": " + firstLine(sql.Query("claim_events"))), []byte(", $5 = '{")},
	{[]byte(": " + firstLine(sql.Query("claim_range"))), []byte(", $4 = '{")},
}

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
		if took, text, ok := claimDuration(line); ok {
			c.last[logSession(line)] = lastClaim{len(c.all), text}
			c.all = append(c.all, claimTime{at: time.Now(), took: took})
		} else if last, ok := c.last[logSession(line)]; ok {
			if claim, ok := claimFence(line, last.text.fences); ok {
				c.all[last.at].claim = claim
				delete(c.last, logSession(line))
			}
		}
		b = b[i+1:]
	}
}

// claimDuration reads "… duration: 0.123 ms  execute name: -- Claim: …".
func claimDuration(line []byte) (ms float64, text claimText, ok bool) {
	i := slices.IndexFunc(claimTexts, func(t claimText) bool { return bytes.HasSuffix(line, t.begins) })
	if i < 0 {
		return 0, text, false
	}
	_, rest, ok := bytes.Cut(line, []byte("duration: "))
	if !ok {
		return 0, text, false
	}
	took, rest, ok := bytes.Cut(rest, []byte(" ms  "))
	if !ok || !bytes.HasPrefix(rest, []byte("execute ")) {
		return 0, text, false
	}
	v, err := strconv.ParseFloat(string(took), 64)
	return v, claimTexts[i], err == nil
}

// logSession returns the process that wrote a line: "… [123] LOG:  …", as the
// default of log_line_prefix has it.
func logSession(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte("["))
	id, _, _ := bytes.Cut(rest, []byte("]"))
	return string(id)
}

// claimFence reads "… DETAIL:  parameters: $1 = '0', …, $5 = '{…}', …", which
// follows a claim, from what is before the first of its fences; newer servers write Parameters.
func claimFence(line, before []byte) (uuid.UUID, bool) {
	_, rest, ok := bytes.Cut(line, []byte("DETAIL:  "))
	if !ok || !bytes.HasPrefix(rest, []byte("parameters: ")) && !bytes.HasPrefix(rest, []byte("Parameters: ")) {
		return uuid.UUID{}, false
	}
	_, rest, ok = bytes.Cut(rest, before)
	if !ok || len(rest) < 36 {
		return uuid.UUID{}, false
	}
	claim, err := uuid.ParseBytes(rest[:36])
	return claim, err == nil
}

// between returns the claims that ended from then to until.
func (c *claimLog) between(from, until time.Time) []claimTime {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []claimTime
	for _, t := range c.all {
		if !t.at.Before(from) && t.at.Before(until) {
			out = append(out, t)
		}
	}
	return out
}

// claimWatch gathers how long claims on one database take.
type claimWatch struct {
	db    *database
	log   *claimLog
	probe bool // the claims are our own, and taken back
	stop  func()
}

// claimTimes are what claims took, in ms, in the order in which they ended.
// Such as found nothing are apart: they do another work, and how many there are
// depends on the pace at which events come.
type claimTimes struct{ brought, empty []float64 }

// between returns the claims that ended from then to until. Whether one brought
// something, the events above number after tell, which keep the last claim that
// they were under; one whose fence is not known counts as if it did.
func (w *claimWatch) between(ctx context.Context, after int64, from, until time.Time) (took claimTimes, err error) {
	all := w.log.between(from, until)
	brought := map[uuid.UUID]bool{uuid.Nil: true}
	if !w.probe {
		asked := make([]uuid.UUID, len(all))
		for i, t := range all {
			asked[i] = t.claim
		}
		rows, _ := w.db.pool.Query(ctx, `select distinct e.claim from public.outbox_events as e
			join unnest($1::uuid[]) as t (claim) on e.claim = t.claim where e.seq > $2`, asked, after)
		claims, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return took, err
		}
		for _, claim := range claims {
			brought[claim] = true
		}
	}
	for _, t := range all {
		if w.probe && t.found || !w.probe && brought[t.claim] {
			took.brought = append(took.brought, t.took)
		} else {
			took.empty = append(took.empty, t.took)
		}
	}
	return took, nil
}

// claimMethod says in a report how claims were timed.
func claimMethod(s *server) string {
	if s.claims != nil {
		return "Claim latency: how long the statements of the listener's own claims (claim_range.sql and claim_events.sql, of which one claim may make both) took in the server, from its log (log_min_duration_statement=0 for the database): of each the phase of execution, without parsing, planning, the BEGIN and settings before it, the COMMIT after it and the way to the listener. Each statement counts by itself, and one that waited in vain for a row that was locked (claim_range.sql, which claim_events.sql follows then) is not among them, since the server ends it. Those that found nothing are counted and shown apart."
	}
	return "Claim latency: the server's log is not ours to read, so the claim of a sweep (claim_events.sql) from the floor, in a transaction that is rolled back, every 5 ms: a coarse measure of what a listener's own claims take, with the planning and the way there and back. Those that found nothing are counted and shown apart."
}

// watchClaims begins to time the claims of listeners that connect to db from
// now on.
func watchClaims(ctx context.Context, db *database) (*claimWatch, error) {
	if db.server.claims != nil {
		err := db.server.exec(ctx, "alter database "+db.name+" set log_min_duration_statement = 0")
		if err == nil {
			err = db.server.exec(ctx, fmt.Sprintf("alter database %s set log_parameter_max_length = %d", db.name, claimParameter))
		}
		return &claimWatch{db: db, log: db.server.claims, stop: func() {}}, err
	}
	w := &claimWatch{db: db, log: newClaimLog(), probe: true}
	probing, cancel := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() {
		for probing.Err() == nil {
			if took, found, err := claimProbe(probing, db, 10); err == nil {
				w.log.mu.Lock()
				w.log.all = append(w.log.all, claimTime{at: time.Now(), took: ms(took), found: found})
				w.log.mu.Unlock()
			}
			select {
			case <-probing.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	w.stop = func() { cancel(); probe.Wait() }
	return w, nil
}

// claimProbe times one claim of up to limit events from the floor, as a sweep
// makes it, and takes it back. It says whether there was something to claim.
func claimProbe(ctx context.Context, db *database, limit int) (took time.Duration, found bool, err error) {
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
		tag, err := tx.Exec(ctx, sql.Query("claim_events"), floor, int64(1<<62), limit, 20.0, []uuid.UUID{uuid.New()}, 64<<10)
		if err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		took, found = time.Since(begun), tag.RowsAffected() > 0
		return errTakenBack
	})
	if err == errTakenBack {
		err = nil
	}
	return took, found, err
}

var errTakenBack = fmt.Errorf("taken back")
