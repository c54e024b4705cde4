-- Record: as record_fresh.sql, for events that lie close together and whose deliveries differ in nothing but
-- their ids: all went by the same route and step ($4, $5) to the same recipient ($7) of a channel ($6), were
-- delivered with as many attempts ($8), and there is nothing else to say of them. So it is with most of a
-- backlog, and then a row needs no arrays unnested, no join, and no search of its own in the index.
--
-- The fence, the order of $1 and the answer are those of record_fresh.sql. Between the first and the last of $1
-- may be others, which are read and left alone.
with fenced as (
    update public.outbox_events as e
    set processed_at = coalesce(e.processed_at, clock_timestamp()),
        lease_until  = null
    where e.seq >= ($1::bigint[])[1] and e.seq <= ($1::bigint[])[cardinality($1::bigint[])]
      and e.seq = ($1::bigint[])[width_bucket(e.seq, $1::bigint[])]
      and e.claim = ($2::uuid[])[width_bucket(e.seq, $1::bigint[])]
    returning e.seq, clock_timestamp() as at, e.id as event_id, left(coalesce(e.type, ''), 200) as event_type,
        case when isfinite(e.created_at) then e.created_at else timestamptz 'epoch' end as event_created_at,
        ($3::uuid[])[width_bucket(e.seq, $1::bigint[])] as id
)
, written as (insert into outbox.deliveries
    (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
     state, attempts, created_at, finished_at)
select f.id, f.event_id, f.seq, f.event_type, f.event_created_at, $4::text, $5::text, $6::text, $7::text,
       'delivered', $8::integer, f.at, f.at
from fenced as f
)
select case when count(*) < cardinality($1::bigint[]) then coalesce(array_agg(seq), '{}') end from fenced
