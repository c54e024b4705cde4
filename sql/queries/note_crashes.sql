-- Note: a listener ended while it had the events and deliveries $1. Up to $2, all that
-- it had is suspected; the last time counts only where it was tried alone.
insert into outbox.crashes as c (id, count)
select t.id, 1
from (select distinct unnest($1::uuid[]) as id) as t
order by t.id
on conflict (id) do update
set count = case when c.at < clock_timestamp() - interval '1 day' then 1
                 when c.count + 1 < $2::integer or c.alone then c.count + 1
                 else c.count end,
    alone = false, at = clock_timestamp()
returning id, count
