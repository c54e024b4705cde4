-- Note: a listener ended while it had the events and deliveries $1. Up to $2, all that
-- it had is suspected; the last time counts only where it was tried alone.
--
-- $3 has the event of each that is a delivery, null for others: one that was never noted goes
-- on from where its event was before it was on record with its deliveries. That the event was
-- tried alone says something of those that were under way then, and nothing later.
with known as materialized ( -- locked in order, as in forget_crashes.sql
    select c.id, c.count, c.alone, c.at
    from outbox.crashes as c
    where c.id = any ($1::uuid[] || $3::uuid[])
    order by c.id
    for no key update
), origins as materialized (
    select * from known where id = any ($3::uuid[])
), used as (
    update outbox.crashes as o set alone = false
    where o.id = any (array(select id from origins where alone))
)
insert into outbox.crashes as c (id, count)
select t.id,
    case when o.id is null or o.at < clock_timestamp() - interval '1 day' then 1
         when o.count + 1 < $2::integer or o.alone then o.count + 1
         else o.count end
from (select distinct * from unnest($1::uuid[], $3::uuid[]) as t (id, event)) as t
left join origins as o on o.id = t.event
order by t.id
on conflict (id) do update
set count = case when c.at < clock_timestamp() - interval '1 day' then 1
                 when c.count + 1 < $2::integer or c.alone then c.count + 1
                 else c.count end,
    alone = false, at = clock_timestamp()
returning id, count
