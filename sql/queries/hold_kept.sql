-- Hold: deliveries $1, each under its claim $2, whose outcomes are yet to be recorded from a file,
-- are due for nobody within $3 seconds from now. One that is over or was taken over is left as it
-- is, and one that somebody has locked too: nobody can claim it. Each is looked up by itself, as in
-- renew_events.sql.
with kept as materialized (
    select t.id
    from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
    cross join lateral (
        select d.claim, d.finished_at, d.due_at from outbox.deliveries as d where d.id = t.id offset 0
        for no key update skip locked
    ) as d
    where d.claim = t.claim and d.finished_at is null
      and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
)
update outbox.deliveries as d
set due_at = clock_timestamp() + $3::float8 * interval '1 second'
where d.id = any (array(select k.id from kept as k))
