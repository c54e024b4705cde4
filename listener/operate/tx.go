package operate

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/sql"
)

// settings hold for each transaction, whatever the role or the database has set:
// plans are made for the arguments at hand, and nobody waits for us for long, also
// where our process is stopped in the middle.
const settings = `select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('synchronous_commit', 'on', true),
	set_config('statement_timeout', $1, true), set_config('lock_timeout', '5000', true), set_config('jit', 'off', true),
	set_config('idle_in_transaction_session_timeout', '10000', true)`

// walks keep a plan to index walks, as listener/store.go has it: what is done to some
// deliveries must not read the ledger, however little is known of it.
const walks = `select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

// A look may read the whole ledger; a change has its deliveries by their ids.
const (
	lookTimeout   = 2 * time.Minute
	changeTimeout = 10 * time.Second
)

func (o *Operator) tx(ctx context.Context, mode pgx.TxAccessMode, f func(pgx.Tx) error) error {
	timeout := changeTimeout
	if mode == pgx.ReadOnly {
		timeout = lookTimeout
	}
	return pgx.BeginTxFunc(ctx, o.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: mode}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, settings, fmt.Sprint(timeout.Milliseconds())); err != nil {
			return err
		}
		return f(tx)
	})
}

// The statements, by the names of their files.
var (
	sqlFindDeliveries   = sql.Query("find_deliveries")
	sqlFindStuck        = sql.Query("find_stuck")
	sqlLockEventsOf     = sql.Query("lock_events_of")
	sqlLockDeliveries   = sql.Query("lock_deliveries")
	sqlFindKin          = sql.Query("find_kin")
	sqlLockKeysOf       = sql.Query("lock_keys_of")
	sqlJudge            = sql.Query("judge_deliveries")
	sqlReplay           = sql.Query("replay_deliveries")
	sqlCancel           = sql.Query("cancel_deliveries")
	sqlHold             = sql.Query("hold_deliveries")
	sqlReleaseHeld      = sql.Query("release_held")
	sqlReleaseFollowers = sql.Query("release_followers")
	sqlSettleEvents     = sql.Query("settle_events")
	sqlNoteAudit        = sql.Query("note_audit")
	sqlTellLines        = sql.Query("tell_lines")
)
