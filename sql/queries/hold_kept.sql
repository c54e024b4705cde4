-- Hold: deliveries $1, each under its claim $2, whose outcomes are yet to be recorded from a file,
-- are due for nobody within $3 seconds from now. One that is over or was taken over is left as it
-- is, and one that somebody has locked too: nobody can claim it.
with kept as materialized (
    select d.id
    from outbox.deliveries as d
    join unnest($1::uuid[], $2::uuid[]) as t (id, claim) on t.id = d.id and t.claim = d.claim
    where d.finished_at is null and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
    order by d.id
    for no key update of d skip locked
)
update outbox.deliveries as d
set due_at = clock_timestamp() + $3::float8 * interval '1 second'
where d.id = any (array(select k.id from kept as k))
