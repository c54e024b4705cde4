package listener

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/sql"
)

// dbTimeout bounds every call to the database, so that a connection that was
// cut off without a word costs seconds and not minutes.
const dbTimeout = 10 * time.Second

// inlinePayload is the largest payload, in bytes of text, that a claim brings
// along; larger ones are read one by one when their turn comes.
const inlinePayload = 64 << 10

// store is the listener's side of the tables: each method is one statement
// or one transaction. The files in sql/queries say what each promises.
type store struct {
	pool       *pgxpool.Pool
	lease      time.Duration   // how long a claim lasts without renewal
	maxPayload int             // bytes of text; larger payloads are refused
	clock      *dispatch.Clock // set by each sweep; may be nil
	smsForgot  atomic.Int64    // when old counts of SMS were last deleted, in ns since 1970, by this host's clock
	dense      atomic.Int64    // where the next claim may go by numbers from, since that before ended there and had most of them; 0: nowhere. See claimRange
	wary       atomic.Int32    // how many claims it is until then, where one by numbers has waited in vain
	due        func()          // called when a transaction of ours made something due
	brakes     *brakes         // are told what claims and sweeps bring of them; nil: nobody is
}

// settings makes a transaction independent of what the role or the database
// set as defaults. The plans of our statements are known: each walks an index
// from a bound. A planner that believes a busy table to be tiny would choose
// otherwise, and be wrong by the next batch. Nor are there workers to be had for
// them: where a table that is read whole is known to be empty, a plan without
// sequential scans and with two workers looks cheaper, and starts both at each sweep.
const settings = `select set_config('synchronous_commit', $1, true),
	set_config('statement_timeout', '10000', true), set_config('lock_timeout', '1000', true),
	set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true),
	set_config('max_parallel_workers_per_gather', '0', true),
	set_config('client_encoding', 'UTF8', true),
	set_config('enable_nestloop', $2, true), set_config('enable_hashjoin', $3, true),
	set_config('plan_cache_mode', $4, true)`

// plans says how statements are planned: which joins they may use, and whether
// a plan is kept for the next time. One that was made while a table was
// empty may have a join the wrong way round, and is kept for as long as nobody
// analyzes the table. So statements that join tables are planned each time;
// those that are run the most are written without such joins, and keep theirs. They are told to:
// left to itself (plan_cache_mode = auto) the server takes a range of numbers that it does not know for a two
// hundredth of the table, and would rather plan each of them anew.
type plans struct{ nested, hashed, cache string }

var (
	walks   = plans{"on", "off", "force_custom_plan"}
	noJoins = plans{"on", "off", "force_generic_plan"}
	hashes  = plans{"off", "on", "force_generic_plan"}
)

// Whether a commit waits until it is on disk. A lost claim is only claimed
// again; a lost record would be a second send.
const (
	durable    = "on"
	forgetable = "off"
)

// tx runs what queue adds in one READ COMMITTED transaction and one round
// trip. The level is explicit, since the claim under any other fails as soon
// as a row changed after its snapshot.
func (s *store) tx(ctx context.Context, commit string, queue func(b *pgx.Batch)) error {
	return s.txWith(ctx, commit, walks, queue)
}

func (s *store) txWith(ctx context.Context, commit string, p plans, queue func(b *pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	var b pgx.Batch
	b.Queue("begin isolation level read committed read write") // Batch.BeginTx would cost a round trip to end
	b.Queue(settings, commit, p.nested, p.hashed, p.cache)
	queue(&b)
	b.Queue("commit")
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = conn.SendBatch(ctx, &b).Close()
	if err != nil && conn.Conn().PgConn().TxStatus() == 'E' {
		_, _ = conn.Exec(ctx, "rollback") // or the pool would close the connection
	}
	return err
}

// inTx runs f in one READ COMMITTED transaction whose commit is durable, for
// what cannot be said in one round trip. It may take as long as timeout,
// which ends the context that f gets.
func (s *store) inTx(ctx context.Context, timeout time.Duration, f func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, settings, durable, walks.nested, walks.hashed, walks.cache); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

// The statements, by the names of their files.
var (
	sqlClaimRange        = sql.Query("claim_range")
	sqlClaimEvents       = sql.Query("claim_events")
	sqlLoadPayload       = sql.Query("load_payload")
	sqlAdoptDeliveries   = sql.Query("adopt_deliveries")
	sqlClaimDue          = sql.Query("claim_due")
	sqlNextDue           = sql.Query("next_due")
	sqlAnnounceNew       = sql.Query("announce_new")
	sqlAnnounceAgain     = sql.Query("announce_again")
	sqlRecordFresh       = sql.Query("record_fresh")
	sqlRecordAlike       = sql.Query("record_alike")
	sqlRecordEvents      = sql.Query("record_events")
	sqlRecordOrphans     = sql.Query("record_orphans")
	sqlRecordDeliveries  = sql.Query("record_deliveries")
	sqlNoteHeld          = sql.Query("note_held")
	sqlRecordAttempts    = sql.Query("record_attempts")
	sqlUnknownAttempts   = sql.Query("unknown_attempts")
	sqlLockEvents        = sql.Query("lock_events")
	sqlBusyEvents        = sql.Query("busy_events")
	sqlLockedTables      = sql.Query("locked_tables")
	sqlSettleEvents      = sql.Query("settle_events")
	sqlRenewEvents       = sql.Query("renew_events")
	sqlRenewDeliveries   = sql.Query("renew_deliveries")
	sqlHoldKept          = sql.Query("hold_kept")
	sqlHastenEvents      = sql.Query("hasten_events")
	sqlReleaseEvents     = sql.Query("release_events")
	sqlReleaseDeliveries = sql.Query("release_deliveries")
	sqlSequence          = sql.Query("sequence")
	sqlInFlight          = sql.Query("in_flight")
	sqlAdvanceFloor      = sql.Query("advance_floor")
	sqlPruneEvents       = sql.Query("prune_events")
	sqlPruneDeliveries   = sql.Query("prune_deliveries")
	sqlDatabaseIdentity  = sql.Query("database_identity")

	sqlFreezeEvents     = sql.Query("freeze_events")
	sqlFreezeDelivery   = sql.Query("freeze_delivery")
	sqlDisownDeliveries = sql.Query("disown_deliveries")
	sqlLockKeys         = sql.Query("lock_keys")
	sqlLockSuperseded   = sql.Query("lock_superseded")
	sqlLockOrphaned     = sql.Query("lock_orphaned")
	sqlSupersede        = sql.Query("supersede")
	sqlCancelSuperseded = sql.Query("cancel_superseded")
	sqlLockLines        = sql.Query("lock_lines")
	sqlPassTurns        = sql.Query("pass_turns")
	sqlStalledLines     = sql.Query("stalled_lines")
	sqlReleaseFollowers = sql.Query("release_followers")
	sqlStepResults      = sql.Query("step_results")
	sqlRecordSQL        = sql.Query("record_sql")

	sqlLookBegin        = sql.Query("look_begin")
	sqlLookAlike        = sql.Query("look_alike")
	sqlLockLikeness     = sql.Query("lock_likeness")
	sqlNoteLook         = sql.Query("note_look")
	sqlLockReport       = sql.Query("lock_report")
	sqlNoteReport       = sql.Query("note_report")
	sqlInsteadOf        = sql.Query("instead_of")
	sqlReadCrashes      = sql.Query("read_crashes")
	sqlNoteCrashes      = sql.Query("note_crashes")
	sqlForgetCrashes    = sql.Query("forget_crashes")
	sqlTryAlone         = sql.Query("try_alone")
	sqlCountSMS         = sql.Query("count_sms")
	sqlUncountSMS       = sql.Query("uncount_sms")
	sqlForgetSMSCounts  = sql.Query("forget_sms_counts")
	sqlLockEventsOf     = sql.Query("lock_events_of")
	sqlRecallInstead    = sql.Query("recall_instead")
	sqlListBrakes       = sql.Query("list_brakes")
	sqlPutBrakes        = sql.Query("put_brakes")
	sqlAskProbe         = sql.Query("ask_probe")
	sqlEndBrakes        = sql.Query("end_brakes")
	sqlForgetBrakes     = sql.Query("forget_brakes")
	sqlReserveSlots     = sql.Query("reserve_slots")
	sqlForgetRates      = sql.Query("forget_rates")
	sqlResumeDeliveries = sql.Query("resume_deliveries")
	sqlResumeBraked     = sql.Query("resume_braked")
	sqlTakeTurn         = sql.Query("take_turn")
)
