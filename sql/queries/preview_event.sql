-- What is previewed of event $1: its payload where that is not larger than $2
-- bytes, when it was processed, and how many deliveries of it are on record.
--
-- An event's deliveries are a range of ids, and those that were moved there when it
-- was opened again: see adopt_deliveries.sql.
select e.type, e.created_at, e.processed_at, octet_length(p.t), case when octet_length(p.t) <= $2::integer then p.t end,
    (select count(*)
     from outbox.deliveries as d
     where d.event_seq = e.seq
       and d.id between (encode(substr(int8send(e.seq), 3), 'hex') || repeat('0', 20))::uuid
                    and (encode(substr(int8send(e.seq), 3), 'hex') || repeat('f', 20))::uuid)
    + (select count(*)
       from outbox.deliveries as d
       where d.event_seq = e.seq and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3))
from public.outbox_events as e,
    lateral (select coalesce(e.payload::text, 'null') as t offset 0) as p
where e.id = $1
