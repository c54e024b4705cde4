-- Forget: what is noted of the events and deliveries $1, since the listener that had
-- them lives, or they are over; and what is a day old.
delete from outbox.crashes as c
where c.id = any (array(
    select o.id from outbox.crashes as o
    where o.id = any ($1::uuid[]) or o.at < clock_timestamp() - interval '1 day'
    order by o.id
    for update))
