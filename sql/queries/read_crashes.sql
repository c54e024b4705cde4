-- Read: how many listeners ended while they had each of the events $1, where some did within a day (note_crashes.sql).
select c.id, c.count
from outbox.crashes as c
where c.id = any ($1::uuid[]) and c.at >= clock_timestamp() - interval '1 day'
