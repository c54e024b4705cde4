-- Brakes: where nothing is sent for the time being, with the seconds until
-- something may be and until one may try. Asked for beside claims, twice a second at
-- the most; the table is empty most of the time.
select destination, extract(epoch from until - clock_timestamp())::float8, extract(epoch from probe_at - clock_timestamp())::float8
from outbox.brakes
