-- The transactions that are writing to outbox_events at this moment,
-- prepared ones included. Their numbers may be below any that is visible.
-- The lock is taken before a number is drawn, so whoever is not in here when
-- this runs draws a number that is higher than all before.
select distinct virtualtransaction
from pg_catalog.pg_locks
where locktype = 'relation'
  and database = (select oid from pg_catalog.pg_database where datname = current_database())
  and relation = 'public.outbox_events'::regclass
  and mode = 'RowExclusiveLock'
