-- Lock: the business keys $1 until the transaction ends, in one order, so that
-- of two events with the same key the later one sees what the other wrote.
select pg_advisory_xact_lock(hashtextextended('outbox supersedes ' || k.key, 0))
from (select distinct key from unnest($1::text[]) as t (key) order by key) as k
