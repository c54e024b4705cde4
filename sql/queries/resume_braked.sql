-- Resume: of the deliveries that wait for a destination which is braked no more, for the
-- reason $1, so many are due within the next second that $2 are, of all listeners, in steps of
-- 50 ms, after those that are already. One listener at a time does it, once a second, until nothing is left: all of
-- them at once would be more than the destination can take that was in trouble a moment ago, and more
-- than leaves room for others. None is put off for longer than $3 seconds.
--
-- The answer is how many these are, and whether there may be more.
--
-- The claim says whether a delivery is leased: see judge_deliveries.sql.
with alone as materialized (
    select pg_try_advisory_xact_lock(hashtextextended($1::text, 7233521)) as is, clock_timestamp() as at
), soon as materialized (
    select least(count(*), $2::integer) as n
    from outbox.deliveries as d
    where d.due_at > (select a.at from alone as a) and d.due_at <= (select a.at from alone as a) + interval '1 second'
      and d.finished_at is null and d.last_error = $1
), kept as materialized (
    select d.id
    from outbox.deliveries as d
    where d.due_at > (select a.at from alone as a) + interval '1 second'
      and d.due_at <= (select a.at from alone as a) + $3::float8 * interval '1 second'
      and d.finished_at is null and d.last_error = $1
      and (d.claim is null or get_byte(uuid_send(d.claim), 6) >> 4 = 5)
      and (select a.is from alone as a)
    order by d.due_at
    limit $2::integer - (select s.n from soon as s)
    for no key update skip locked
), placed as materialized (
    select k.id, (select s.n from soon as s) + row_number() over () - 1 as n from kept as k
), resumed as (
    update outbox.deliveries as d
    set due_at = (select a.at from alone as a) + p.n * 20 / $2::integer * interval '50 milliseconds'
    from placed as p
    where d.id = p.id
    returning d.id
)
select count(*), not (select a.is from alone as a) or count(*) >= $2::integer - (select s.n from soon as s)
from resumed
