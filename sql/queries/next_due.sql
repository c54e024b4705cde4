-- What a sweep needs to know: the floor, the seconds until the next delivery is
-- due (not above zero when it is late, null when none waits), the time, and what is held
-- back: an array of what is paused and of the destinations that are braked, with the
-- seconds until something may be sent there and until one may try. Both tables are empty
-- most of the time.
--
-- Where $1 is a wake name it sends the heartbeat there too, so that an idle
-- listener need not come a second time for it.
select s.floor, (
    select case when isfinite(d.due_at) then extract(epoch from d.due_at - clock_timestamp())::float8
                when d.due_at < clock_timestamp() then 0 end
    from outbox.deliveries as d
    where d.due_at is not null
    order by d.due_at
    limit 1),
    clock_timestamp(), (
    select coalesce(json_agg(json_build_object('kind', h.kind, 'pattern', h.pattern, 'until', h.until, 'probe', h.probe)
                             order by h.since, h.kind, h.pattern), '[]')::text
    from (
        select p.kind, p.pattern, p.since, 0::float8 as until, 0::float8 as probe
        from outbox.pauses as p
        union all
        select 'brake', b.destination, b.since, extract(epoch from b.until - clock_timestamp())::float8,
               extract(epoch from b.probe_at - clock_timestamp())::float8
        from outbox.brakes as b
    ) as h),
    case when $1::text <> '' then pg_catalog.pg_notify($1, 'beat')::text end
from outbox.state as s
