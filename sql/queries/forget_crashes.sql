-- Forget: what is noted of the events and deliveries $1, since the listener that had
-- them lives, or they are over; and what is a day old.
delete from outbox.crashes as c
where c.id = any ($1::uuid[]) or c.at < clock_timestamp() - interval '1 day'
