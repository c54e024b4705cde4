-- Release: the events $1, in ascending order, which were claimed under $2 and never begun, are free at
-- once, or in $3 seconds where that is not 0. The claim changes, so that a renewal that is under way finds
-- them no more; it does not become null, which would say that nobody ever had them. That of
-- what is put off so says that nobody has it, and that no listener ended with it.
--
-- One that somebody holds a row lock on keeps its lease, since the others
-- must not wait for it, and is in the result. MATERIALIZED, so that each row
-- is tried once; each is looked up by itself, as in renew_events.sql.
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
), released as (
    update public.outbox_events as e
    set lease_until = clock_timestamp() + nullif(($3::float8[])[width_bucket(e.seq, $1::bigint[])], 0) * interval '1 second',
        claim = case when ($3::float8[])[width_bucket(e.seq, $1::bigint[])] > 0 then uuid '{{put_off}}' else gen_random_uuid() end
    where e.seq = any (array(select seq from free))
)
select seq from ours where seq not in (select seq from free)
