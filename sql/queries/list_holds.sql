-- Holds: what is paused, and which destinations are braked, with the seconds until
-- something may be sent there and until one may try. Asked for with each sweep; both
-- tables are empty most of the time.
select h.kind, h.pattern, h.until, h.probe
from (
    select kind, pattern, since, 0::float8 as until, 0::float8 as probe
    from outbox.pauses
    union all
    select 'brake', destination, since, extract(epoch from until - clock_timestamp())::float8, extract(epoch from probe_at - clock_timestamp())::float8
    from outbox.brakes
) as h
order by h.since, h.kind, h.pattern
