-- Find: the deliveries of the events of those with the ids $1: what family each is of,
-- which has the same step and recipient, its id and its generation. The deliveries
-- of an event are found as adopt_deliveries.sql says.
with theirs as materialized (
    select distinct d.event_seq from outbox.deliveries as d where d.id = any ($1::uuid[])
)
select d.id, d.generation, json_build_array(d.event_seq, d.route, d.step, d.channel, d.recipient)::text
from theirs as e
join outbox.deliveries as d on d.event_seq = e.event_seq
 and d.id between (encode(substr(int8send(e.event_seq), 3), 'hex') || repeat('0', 20))::uuid
              and (encode(substr(int8send(e.event_seq), 3), 'hex') || repeat('f', 20))::uuid
union all
select d.id, d.generation, json_build_array(d.event_seq, d.route, d.step, d.channel, d.recipient)::text
from theirs as e
join outbox.deliveries as d on d.event_seq = e.event_seq
 and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
