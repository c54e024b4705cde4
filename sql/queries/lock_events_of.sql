-- Lock: the events of the deliveries $1, in order of seq, as everybody locks
-- rows: events first, then deliveries.
select e.seq
from public.outbox_events as e
where e.seq = any (array(select d.event_seq from outbox.deliveries as d where d.id = any ($1::uuid[])))
order by e.seq
for no key update of e
