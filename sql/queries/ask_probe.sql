-- Ask: may one delivery be sent to the braked destination $1, to see whether it
-- takes any? Of all that ask within a second, one may. No row: it is not braked. The other
-- columns are the seconds until something may be sent and until the next may ask.
with now as materialized (
    select clock_timestamp() as at
), granted as (
    update outbox.brakes as b
    set probe_at = now.at + interval '1 second'
    from now
    where b.destination = $1::text and b.probe_at <= now.at and b.until <= now.at
    returning b.destination
)
select exists (select from granted),
    extract(epoch from b.until - now.at)::float8,
    greatest(extract(epoch from b.probe_at - now.at)::float8, case when exists (select from granted) then 1 end)
from outbox.brakes as b
cross join now
where b.destination = $1::text
