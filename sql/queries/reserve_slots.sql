-- Reserve: for each key of $1 as many slots, $2 apart (in seconds), as come within $5
-- seconds, at most $4, by the generic cell rate algorithm (ITU-T I.371, annex A): one
-- is given as long as the theoretical arrival time is no more than $3 seconds ahead. The
-- answer is how many, and how many seconds from now the theoretical time is after them.
--
-- The time of the question stands in the row, so that the part after ON CONFLICT has the
-- same as the part before.
insert into outbox.rates as r (key, asked_at, granted, tat)
select t.key, now.at, g.n, now.at + g.n * t.apart * interval '1 second'
from unnest($1::text[], $2::float8[], $3::float8[], $4::integer[]) as t (key, apart, ahead, most)
cross join (select clock_timestamp() as at) as now
cross join lateral (select least(t.most, floor((t.ahead + $5::float8) / t.apart + 1e-6)::integer + 1) as n) as g
order by t.key
on conflict (key) do update
set (asked_at, granted, tat) = (
    select excluded.asked_at, g.n, b.tat + g.n * t.apart * interval '1 second'
    from unnest($1::text[], $2::float8[], $3::float8[], $4::integer[]) as t (key, apart, ahead, most)
    cross join (select greatest(r.tat, excluded.asked_at) as tat) as b
    cross join lateral (
        select greatest(least(t.most, floor((t.ahead + $5::float8 - extract(epoch from b.tat - excluded.asked_at)::float8) / t.apart + 1e-6)::integer + 1), 0) as n
    ) as g
    where t.key = r.key
)
returning key, granted, extract(epoch from tat - asked_at)::float8
