-- Resume: of the deliveries that wait for a destination which is braked no more, for the
-- reason $1, $2 are due within the next $4 seconds, of all listeners, evenly, in steps of
-- 10 ms, after those that are already. One listener at a time does it, again and again until nothing is left: all of
-- them at once would be more than the destination can take that was in trouble a moment ago, and more
-- than leaves room for others. None is put off for longer than $3 seconds. While twenty of any kind are late by two seconds,
-- listeners have enough to do; a few may be locked by somebody.
--
-- The answer is how many these are, whether there may be more, and whether nobody else was at it.
--
-- Whether somebody else is at it is what take_turn.sql has found, in a statement before this one: whoever
-- had the lock before has committed then, and is seen.
--
-- The claim says whether a delivery is leased: see judge_deliveries.sql.
with alone as materialized (
    select t.is, t.is and (
            select count(*) from (
                select from outbox.deliveries as d
                where d.due_at <= (select clock_timestamp() - interval '2 seconds')
                limit 20
            ) as late
        ) < 20 as go,
        clock_timestamp() as at, clock_timestamp() + $4::float8 * interval '1 second' as soon
    from (select current_setting('outbox.turn')::boolean as is) as t
), before as materialized (
    select count(*) as n
    from (
        select from outbox.deliveries as d
        where (select a.go from alone as a)
          and d.due_at <= (select a.soon from alone as a) and d.finished_at is null and d.last_error = $1
        limit $2::integer
    ) as early
), kept as materialized (
    select d.id
    from outbox.deliveries as d
    where (select a.go from alone as a)
      and d.due_at > (select a.soon from alone as a)
      and d.due_at <= (select a.at from alone as a) + $3::float8 * interval '1 second'
      and d.finished_at is null and d.last_error = $1
      and (d.claim is null or get_byte(uuid_send(d.claim), 6) >> 4 = 5)
    order by d.due_at
    limit (select $2::integer - b.n from before as b)
    for no key update skip locked
), placed as materialized (
    select k.id, (select b.n from before as b) + row_number() over () - 1 as n from kept as k
), resumed as (
    update outbox.deliveries as d
    set due_at = (select a.at from alone as a) + floor(p.n * $4::float8 * 100 / $2::integer) * interval '10 milliseconds'
    from placed as p
    where d.id = p.id
    returning d.id
)
select count(resumed.id), not a.go or count(resumed.id) >= $2::integer - (select b.n from before as b), a.is
from alone as a left join resumed on true
group by a.go, a.is
