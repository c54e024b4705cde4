-- Renew: the leases of events $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result. One that
-- somebody has locked is not waited for, since all that this listener holds
-- would lose its lease with it: it is in the result, and not renewed.
--
-- Each row is looked up by itself (offset keeps the two from being joined in another
-- way), and what was renewed is looked up, too: joined in a loop, as plans are held to,
-- ten thousand would be a hundred million comparisons.
with ours as materialized (
    select t.seq, t.claim
    from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
    cross join lateral (
        select e.claim, e.processed_at, e.lease_until from public.outbox_events as e where e.seq = t.seq offset 0
    ) as e
    where e.claim = t.claim and e.processed_at is null and e.lease_until is distinct from 'infinity'
), free as materialized (
    select o.seq
    from ours as o
    cross join lateral (
        select e.claim, e.processed_at, e.lease_until from public.outbox_events as e where e.seq = o.seq offset 0
        for no key update skip locked
    ) as e
    where e.claim = o.claim and e.processed_at is null and e.lease_until is distinct from 'infinity'
), renewed as (
    update public.outbox_events as e
    set lease_until = clock_timestamp() + $3::float8 * interval '1 second'
    where e.seq = any (array(select seq from free))
    returning e.seq
)
select o.seq, o.claim, o.seq in (select seq from renewed)
from ours as o
