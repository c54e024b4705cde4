package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Reader runs lookups. It may be used by many goroutines.
type Reader struct {
	Pool    *pgxpool.Pool
	Role    string        // the role that lookups run as; "" means that of the connection
	Timeout time.Duration // of one statement; 0 means DefaultTimeout
}

// DefaultTimeout bounds one lookup.
const DefaultTimeout = 2 * time.Second

// slack is what a transaction may take beside its statements: a connection, and
// the answers.
const slack = 5 * time.Second

// Tx is one READ ONLY, REPEATABLE READ transaction: all its lookups see the same
// moment.
type Tx struct {
	tx      pgx.Tx
	now     time.Time
	timeout time.Duration
}

// BadValue says that a value of the event does not suit the parameter that it is
// bound to. It never will.
type BadValue struct{ Reason string }

// Error implements error.
func (e *BadValue) Error() string {
	return "a value does not suit the query: " + e.Reason
}

// Fault says that the database did not answer a lookup. It may the next time,
// once somebody has mended what Line and Column point at, where they are not 0.
type Fault struct {
	Code         string // SQLSTATE; "" where the database was not reached
	Line, Column int    // in the statement as it was written
	Err          error
}

// Error implements error.
func (e *Fault) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err)
	}
	return e.Err.Error()
}

// Mend says what to do about it; "" where there is nothing to do but wait.
func (e *Fault) Mend() string {
	if e.Code == "" || shortage(e.Code) {
		return ""
	}
	return "run `listener check`, which names the place in the routes and what is missing; nothing is lost meanwhile"
}

// shortage reports whether a SQLSTATE is about the server or about the moment, not
// about what was asked: of connections, resources, an operator, a lock, or a timeout.
func shortage(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", "40", "53", "55", "57", "58":
		return true
	}
	return false
}

// Read runs f in one transaction. What f returns is returned; else the error is
// a *Fault.
func (r *Reader) Read(ctx context.Context, f func(*Tx) error) error {
	timeout := r.timeout()
	conn, err := r.acquire(ctx)
	if err != nil {
		return &Fault{Err: err}
	}
	defer conn.Release()
	tx, err := begin(ctx, conn, timeout)
	if err != nil {
		return fault(err, nil, 0, "")
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slack)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing was written
	}()
	t := &Tx{tx: tx, timeout: timeout}
	err = tx.QueryRow(ctx, `select clock_timestamp(), set_config('statement_timeout', $1, true), set_config('TimeZone', 'UTC', true),
		set_config('role', case when $2 = '' then current_setting('role') else $2 end, true)`,
		fmt.Sprint(timeout.Milliseconds()), r.Role).Scan(&t.now, nil, nil, nil)
	if err != nil {
		return fault(err, nil, 0, "")
	}
	return f(t)
}

func (r *Reader) timeout() time.Duration {
	if r.Timeout > 0 {
		return r.Timeout
	}
	return DefaultTimeout
}

func (r *Reader) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, slack)
	defer cancel()
	conn, err := r.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("no connection for a lookup: %w", err)
	}
	return conn, nil
}

func begin(ctx context.Context, conn *pgxpool.Conn, timeout time.Duration) (pgx.Tx, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+slack)
	defer cancel()
	return conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
}

// Now is what the database's clock said when the transaction began.
func (tx *Tx) Now() time.Time { return tx.now }

// prefix and suffix turn the rows of a statement into JSON, by the database
// itself: numbers stay exact, times are ISO 8601.
//
// A row that is too large by itself comes as null, so that it is not even sent.
const (
	prefix = "select case when octet_length(r.t) <= 8388608 then r.t end from (select to_jsonb(q)::text as t from (\n"
	suffix = "\n) as q limit "
	end    = ") as r"
)

// maxRows bounds the rows of one lookup together, as JSON, in bytes.
const maxRows = 8 << 20

// TooLarge says that a lookup found more than an event may have.
type TooLarge struct{}

// Error implements error.
func (*TooLarge) Error() string {
	return fmt.Sprintf("it found more than %d MiB; have it select fewer rows or columns", maxRows>>20)
}

// Rows runs q and returns each row as a JSON object, at most most of them; there
// is one more where there would be more. The error is a *BadValue, a *TooLarge or a
// *Fault.
func (tx *Tx) Rows(ctx context.Context, q *Query, args map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, tx.timeout+slack)
	defer cancel()
	statement, values := q.Bind(args)
	whole := prefix + statement + suffix + fmt.Sprint(most+1) + end
	var out []json.RawMessage
	var b pgx.Batch
	b.Queue("savepoint lookup") // a value that does not suit must not end the lookups of other routes
	b.Queue(whole, anys(values)...).Query(func(rows pgx.Rows) error {
		var text []byte
		size := 0
		_, err := pgx.ForEachRow(rows, []any{&text}, func() error {
			if size += len(text); text == nil || size > maxRows {
				return &TooLarge{}
			}
			out = append(out, json.RawMessage(text))
			text = nil
			return nil
		})
		return err
	})
	err := tx.tx.SendBatch(ctx, &b).Close()
	if large, ok := errors.AsType[*TooLarge](err); ok {
		return nil, large
	}
	if err == nil {
		return out, nil
	}
	err = fault(err, q, len(prefix), whole)
	if _, bad := errors.AsType[*BadValue](err); bad {
		// Where this fails, so does the next lookup.
		_, _ = tx.tx.Exec(ctx, "rollback to savepoint lookup")
	}
	return nil, err
}

func anys(values []*string) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// fault turns an error of the database into what it means for an event, without
// the values that it tells.
func fault(err error, q *Query, offset int, whole string) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return &Fault{Err: err}
	}
	message := dispatch.SQLMessage(pg.Message)
	if q != nil && ofData(pg.Code) {
		return &BadValue{message}
	}
	f := &Fault{Code: pg.Code, Err: fmt.Errorf("%s (SQLSTATE %s)", message, pg.Code)}
	if q != nil && pg.Position > 0 {
		f.Line, f.Column = q.placeOf(int(pg.Position), offset, whole)
	}
	return f
}

// ofData reports whether the same data will bring the same error for ever: a
// value that does not fit (class 22), two rows where the query has place for one
// (21), more than the server can do in one statement (54). 22023 also comes of
// settings, which somebody may mend.
func ofData(code string) bool {
	switch code[:min(2, len(code))] {
	case "21", "54":
		return true
	case "22":
		return code != "22023"
	}
	return false
}
