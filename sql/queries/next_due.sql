-- What a sweep needs to know: the floor, and the seconds until the next
-- delivery is due (not above zero when it is late, null when none waits).
select s.floor, (
    select case when isfinite(d.due_at) then extract(epoch from d.due_at - clock_timestamp())::float8
                when d.due_at < clock_timestamp() then 0 end
    from outbox.deliveries as d
    where d.due_at is not null
    order by d.due_at
    limit 1)
from outbox.state as s
