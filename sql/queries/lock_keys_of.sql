-- Lock: the business keys of the deliveries $1 until the transaction ends, as
-- lock_keys.sql does, and like it before any row. So an event with the same key is
-- planned before, and seen, or after, and sees what is replayed.
with theirs as materialized (
    select d.supersedes from outbox.deliveries as d where d.id = any ($1::uuid[])
)
select pg_advisory_xact_lock(hashtextextended('outbox supersedes ' || k.key, 0))
from (select distinct t.supersedes as key from theirs as t where t.supersedes is not null order by 1) as k
