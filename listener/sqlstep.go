package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// SQLConfig says how sql steps run. The zero value runs them as the listener's
// own role, within DefaultSQLTimeout.
type SQLConfig struct {
	Role    string        // the role that they run as; "" means the listener's own
	Timeout time.Duration // of one statement; 0 means DefaultSQLTimeout
}

// DefaultSQLTimeout bounds the statement of an sql step.
const DefaultSQLTimeout = 5 * time.Second

// SetSQL changes how sql steps run, from the next one on.
func (l *Listener) SetSQL(c SQLConfig) { l.sql.Store(&c) }

// runSQL runs the statement of j in the transaction that records j as
// delivered. A statement that fails takes the record with it, and is recorded like
// any other failed attempt.
func (l *Listener) runSQL(ctx context.Context, j *job) verdict {
	content, err := dispatch.ReadContent[dispatch.SQL](&j.Message)
	if err != nil {
		l.finish(j, dispatch.Outcome{State: dispatch.Dead, Reason: err.Error(), Attempts: j.attempts})
		return nothing
	}
	j.set(&j.begun, true)
	begun := time.Now()
	j.recording.Store(true) // it may be on record, and the answer be lost
	kept, err := l.insistSQL(j, content)
	j.took = time.Since(begun)
	if failed, ok := errors.AsType[*statementError](err); ok {
		why := failed.classify()
		l.hush(j, why)
		l.finish(j, dispatch.Decide(l.policy(j), j.Attempt, l.limit(j), dispatch.Receipt{}, why))
		return nothing
	}
	o := dispatch.Outcome{State: dispatch.Delivered, Attempts: j.Attempt}
	if err != nil {
		// The lease is about to run out, or the listener stops, with the database
		// away. Whoever takes it next sees from the record whether it was run.
		kept, o = false, j.notBegun(0)
	}
	j.set(&j.begun, false)
	j.outcome = &o
	logAttempt(l.log, j)
	if kept && j.line != "" {
		l.passTurnsSoon(l.recorder.stop, []string{j.line})
	}
	l.recorded(entry{job: j}, kept)
	return nothing
}

// insistSQL tries until the transaction has an end that is known, or j is not
// ours for much longer.
func (l *Listener) insistSQL(j *job, c dispatch.SQL) (kept bool, err error) {
	for try := 1; ; try++ {
		kept, err = l.store.recordSQL(l.recorder.stop, j, c, *l.sql.Load())
		var failed *statementError
		switch {
		case err == nil, errors.As(err, &failed) && (!failed.passing() || try >= 5), l.recorder.stop.Err() != nil, l.lost(j):
			return kept, err
		}
		if failed == nil && !isLocked(err) {
			l.sparse.warn("sql step not run; trying again", err)
		}
		wait(l.recorder.stop, pause(try))
	}
}

// statementError is what the database said to the statement of an sql step.
type statementError struct{ pg *pgconn.PgError }

// Error implements error. The values that the database tells are left out.
func (e *statementError) Error() string {
	return fmt.Sprintf("%s (SQLSTATE %s)", dispatch.SQLMessage(e.pg.Message), e.pg.Code)
}

// passing reports whether others were in the way at that moment, or the server
// could not do it just then.
func (e *statementError) passing() bool {
	switch e.pg.Code {
	case "40001", "40P01", "55P03": // serialization, deadlock, lock timeout
		return true
	case "57014": // canceled by statement_timeout
		return false
	}
	switch e.pg.Code[:2] {
	case "53", "57", "58", "XX": // resources, an operator, the system, internal
		return true
	}
	return false
}

// classify says what follows. What the data or the statement is at fault for
// will not pass by itself, but a missing table or right may be mended: it is tried
// again.
func (e *statementError) classify() *dispatch.Error {
	out := &dispatch.Error{Channel: dispatch.ChannelSQL, Kind: dispatch.Down, Code: e.pg.Code, Err: errors.New(dispatch.SQLMessage(e.pg.Message))}
	switch e.pg.Code[:2] {
	case "22", "23", "21", "44": // data exception, constraint, cardinality, view check
		out.Kind = dispatch.Rejected
	}
	return out
}

// ofStatement reports whether the error says something about the statement, and
// nothing about the connection: the server goes on after it. Functions raise
// errors of every class, internal ones too.
func ofStatement(err error) (*statementError, bool) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 || pg.Code[:2] == "08" {
		return nil, false
	}
	if pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC" {
		return nil, false
	}
	return &statementError{pg}, true
}

// recordSQL runs the statement and records j as delivered, in one transaction.
// It returns false where j is no longer ours, and nil and true also where an
// earlier try was committed whose answer was lost. Then nothing is run again.
func (s *store) recordSQL(ctx context.Context, j *job, c dispatch.SQL, cfg SQLConfig) (kept bool, err error) {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = DefaultSQLTimeout
	}
	released := 0
	err = s.inTx(ctx, dbTimeout+timeout, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		var found string
		b.Queue(sqlLockEvents, []int64{j.seq})
		b.Queue(sqlRecordSQL, [16]byte(j.ID), [16]byte(j.lease.claim), j.Attempt, [16]byte(j.lease.successor())).Query(func(rows pgx.Rows) error {
			return each(rows, func(s string) { found = s })
		})
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		kept = found != ""
		if found != "go" {
			return nil
		}
		before, err := runStatement(ctx, tx, c, cfg.Role, timeout)
		if err != nil {
			return err
		}
		// By itself: pgx prepares the statements of a batch before it runs the
		// first, and the other role may not even look at ours.
		if _, err := tx.Exec(ctx, `select set_config('role', $1, true)`, before); err != nil {
			return err
		}
		var after pgx.Batch
		after.Queue(settings, durable, walks.nested, walks.hashed, walks.cache)
		s.releaseFollowers(&after, uuids{{Bytes: j.ID, Valid: true}}, &released)
		after.Queue(sqlSettleEvents, []int64{j.seq})
		return tx.SendBatch(ctx, &after).Close()
	})
	s.tellDue(err, released)
	return kept, err
}

// applicationDefaults undoes, for the statement of an application, what settings
// says for ours. The role before comes first, since the list is worked off in
// order.
const applicationDefaults = `select current_setting('role'), set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
	set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true),
	set_config('enable_mergejoin', 'on', true), set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'on', true),
	set_config('role', case when $2 = '' then current_setting('role') else $2 end, true)`

// runStatement runs c within tx as role, and returns the role to come back to.
// Constraints that wait for the commit are asked here, so that what they say is
// known to be about the statement. A batch, since pgx sends what has no arguments
// by the simple protocol otherwise, in which "insert …; commit" is two statements.
func runStatement(ctx context.Context, tx pgx.Tx, c dispatch.SQL, role string, timeout time.Duration) (before string, err error) {
	defer func() {
		if failed, ok := ofStatement(err); ok {
			err = failed
		}
	}()
	err = tx.QueryRow(ctx, applicationDefaults, fmt.Sprint(timeout.Milliseconds()), role).
		Scan(&before, nil, nil, nil, nil, nil, nil, nil, nil)
	if err != nil {
		return "", err
	}
	args := make([]any, len(c.Args))
	for i, a := range c.Args {
		args[i] = a
	}
	var b pgx.Batch
	b.Queue(c.Statement, args...)
	b.Queue("set constraints all immediate")
	return before, tx.SendBatch(ctx, &b).Close()
}
