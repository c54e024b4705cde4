-- What a sweep needs to know: the floor, the seconds until the next delivery is
-- due (not above zero when it is late, null when none waits), and the time.
-- Where $1 is a wake name it sends the heartbeat there too, so that an idle
-- listener need not come a second time for it.
select s.floor, (
    select case when isfinite(d.due_at) then extract(epoch from d.due_at - clock_timestamp())::float8
                when d.due_at < clock_timestamp() then 0 end
    from outbox.deliveries as d
    where d.due_at is not null
    order by d.due_at
    limit 1),
    clock_timestamp(),
    case when $1::text <> '' then pg_catalog.pg_notify($1, 'beat')::text end
from outbox.state as s
