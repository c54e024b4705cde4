-- Which of the tables that outcomes are written to somebody else has to himself, as ALTER
-- TABLE, CREATE INDEX and VACUUM FULL do, or is about to: whoever waits for that has us
-- wait behind him. No row of such a table can be written, so that there is nothing to
-- step around. It is asked of the list of locks, which waits for none, and only after a
-- write that met a lock.
select distinct l.relation::regclass::text
from pg_catalog.pg_locks as l
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
  and l.relation in ('public.outbox_events'::regclass, 'outbox.deliveries'::regclass, 'outbox.attempts'::regclass)
  and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  and l.pid is distinct from pg_backend_pid() -- a prepared transaction has none
order by 1
