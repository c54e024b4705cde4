-- Renew: the leases of deliveries $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result, and so is one
-- that is due later than that: its outcome is on record. One that somebody has
-- locked is in the result, and not renewed, as in renew_events.sql.
with ours as materialized (
    select d.id, d.claim
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    join outbox.deliveries as d on d.id = t.id and d.claim = t.claim and d.finished_at is null
        and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
), free as materialized (
    select d.id
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    join outbox.deliveries as d on d.id = t.id and d.claim = t.claim and d.finished_at is null
        and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
    for no key update of d skip locked
), renewed as (
    update outbox.deliveries as d
    set due_at = clock_timestamp() + $3::float8 * interval '1 second'
    from free
    where d.id = free.id
    returning d.id
)
select o.id, o.claim, r.id is not null
from ours as o
left join renewed as r on r.id = o.id
