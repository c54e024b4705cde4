-- Release: the destinations $1 are braked no more, since one that tried was
-- answered; but for those that have asked somebody else to wait meanwhile. The result
-- has those that were, and for how many seconds.
delete from outbox.brakes as b
where b.destination = any ($1::text[]) and b.until <= clock_timestamp()
returning b.destination, extract(epoch from clock_timestamp() - b.since)::float8
