-- Renew: the leases of events $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result. One that
-- somebody has locked is not waited for, since all that this listener holds
-- would lose its lease with it: it is in the result, and not renewed.
with ours as materialized (
    select e.seq, e.claim
    from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
    join public.outbox_events as e on e.seq = t.seq and e.claim = t.claim and e.processed_at is null
        and e.lease_until is distinct from 'infinity'
), free as materialized (
    select e.seq
    from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
    join public.outbox_events as e on e.seq = t.seq and e.claim = t.claim and e.processed_at is null
        and e.lease_until is distinct from 'infinity'
    for no key update of e skip locked
), renewed as (
    update public.outbox_events as e
    set lease_until = clock_timestamp() + $3::float8 * interval '1 second'
    from free
    where e.seq = free.seq
    returning e.seq
)
select o.seq, o.claim, r.seq is not null
from ours as o
left join renewed as r on r.seq = o.seq
