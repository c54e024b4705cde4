-- Note: a listener ended while it had the events and deliveries $1. Up to $2, all that
-- it had is suspected; the last time counts only where it was tried alone.
--
-- $3 has the event of each that is a delivery: one that was never noted goes on from where
-- its event was before it was on record with its deliveries.
insert into outbox.crashes as c (id, count)
select t.id,
    case when e.id is null or e.at < clock_timestamp() - interval '1 day' then 1
         when e.count + 1 < $2::integer or e.alone then e.count + 1
         else e.count end
from (select distinct * from unnest($1::uuid[], $3::uuid[]) as t (id, event)) as t
left join outbox.crashes as e on e.id = t.event
order by t.id
on conflict (id) do update
set count = case when c.at < clock_timestamp() - interval '1 day' then 1
                 when c.count + 1 < $2::integer or c.alone then c.count + 1
                 else c.count end,
    alone = false, at = clock_timestamp()
returning id, count
