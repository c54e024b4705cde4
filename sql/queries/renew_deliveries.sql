-- Renew: the leases of deliveries $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result, and so is one
-- that is due later than that: its outcome is on record. One that somebody has
-- locked is in the result, and not renewed, and each is looked up by itself, as in
-- renew_events.sql.
with ours as materialized (
    select t.id, t.claim
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    cross join lateral (
        select d.claim, d.finished_at, d.due_at from outbox.deliveries as d where d.id = t.id offset 0
    ) as d
    where d.claim = t.claim and d.finished_at is null
      and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
), free as materialized (
    select o.id
    from ours as o
    cross join lateral (
        select d.claim, d.finished_at, d.due_at from outbox.deliveries as d where d.id = o.id offset 0
        for no key update skip locked
    ) as d
    where d.claim = o.claim and d.finished_at is null
      and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
), renewed as (
    update outbox.deliveries as d
    set due_at = clock_timestamp() + $3::float8 * interval '1 second'
    where d.id = any (array(select id from free))
    returning d.id
)
select o.id, o.claim, o.id in (select id from renewed)
from ours as o
