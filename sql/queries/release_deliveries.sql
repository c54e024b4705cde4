-- Release: deliveries that were claimed and never begun are due at once. One
-- that somebody holds a row lock on keeps its lease, as in release_events.sql,
-- and is in the result.
with ours as materialized (
    select d.id
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    join outbox.deliveries as d on d.id = t.id and d.claim = t.claim and d.finished_at is null
), free as materialized (
    select d.id
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    join outbox.deliveries as d on d.id = t.id and d.claim = t.claim and d.finished_at is null
    for no key update of d skip locked
), released as (
    update outbox.deliveries as d
    set due_at = clock_timestamp(), claim = null
    from free
    where d.id = free.id
)
select id from ours where id not in (select id from free)
