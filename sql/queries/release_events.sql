-- Release: events that were claimed and never begun are free at once. The
-- claim changes, so that a renewal that is under way finds them no more; it
-- does not become null, which would say that nobody ever had them.
--
-- One that somebody holds a row lock on keeps its lease, since the others
-- must not wait for it, and is in the result. MATERIALIZED, so that each row
-- is tried once.
with ours as materialized (
    select e.seq
    from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
    join public.outbox_events as e on e.seq = t.seq and e.claim = t.claim and e.processed_at is null
        and e.lease_until is distinct from 'infinity'
), free as materialized (
    select e.seq
    from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
    join public.outbox_events as e on e.seq = t.seq and e.claim = t.claim and e.processed_at is null
        and e.lease_until is distinct from 'infinity'
    for no key update of e skip locked
), released as (
    update public.outbox_events as e
    set lease_until = null, claim = gen_random_uuid()
    from free
    where e.seq = free.seq
)
select seq from ours where seq not in (select seq from free)
