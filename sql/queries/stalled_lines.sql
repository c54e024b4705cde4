-- Find: up to $2 lines after the line $1 in which nobody has the turn, though
-- somebody waits or is over: the one who was to pass it ended, or a person changed
-- the row. One look into the index for each line.
with recursive lines as (
    (select d.line from outbox.deliveries as d where d.line > $1::text order by d.line limit 1)
    union all
    select (select d.line from outbox.deliveries as d where d.line > l.line order by d.line limit 1)
    from lines as l
    where l.line is not null
), few as (
    select l.line from lines as l where l.line is not null limit $2::integer
)
select f.line,
       not exists (
           select from outbox.deliveries as o
           where o.line = f.line and o.turn_at is not null and o.finished_at is null) as stalled
from few as f
