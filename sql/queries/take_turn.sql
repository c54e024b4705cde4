-- Turn: whether nobody else does what $1 names, until the end of the transaction. outbox.turn has the
-- answer for the statements after this one.
select set_config('outbox.turn', pg_try_advisory_xact_lock(hashtextextended('outbox turn ' || $1::text, 0))::text, true)
