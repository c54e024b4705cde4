-- Release: deliveries that were claimed and never begun are due at once. One
-- that somebody holds a row lock on keeps its lease, as in release_events.sql,
-- and is in the result.
with ours as materialized (
    select t.id, t.claim
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    cross join lateral (select d.claim, d.finished_at from outbox.deliveries as d where d.id = t.id offset 0) as d
    where d.claim = t.claim and d.finished_at is null
), free as materialized (
    select o.id
    from ours as o
    cross join lateral (
        select d.claim, d.finished_at from outbox.deliveries as d where d.id = o.id offset 0
        for no key update skip locked
    ) as d
    where d.claim = o.claim and d.finished_at is null
), released as (
    update outbox.deliveries as d
    set due_at = clock_timestamp(), claim = null
    where d.id = any (array(select id from free))
)
select id from ours where id not in (select id from free)
