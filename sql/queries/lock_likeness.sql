-- Lock: what is alike by $1, until the transaction ends, so that of two deliveries
-- that find the same message the later one sees what the other took.
select pg_advisory_xact_lock(hashtextextended('outbox likeness ' || $1::integer, 0))
