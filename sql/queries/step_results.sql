-- What came of the steps $3 of route $2 for event $1: state and answer, the newest
-- generation of each. Where a step had several recipients, one that was not
-- delivered stands for all.
--
-- An event's deliveries are a range of ids, and those that were moved there when it
-- was opened again: see adopt_deliveries.sql.
with theirs as (
    select d.*
    from outbox.deliveries as d
    where d.event_seq = $1
      and d.id between (encode(substr(int8send($1::bigint), 3), 'hex') || repeat('0', 20))::uuid
                and (encode(substr(int8send($1::bigint), 3), 'hex') || repeat('f', 20))::uuid
    union all
    select d.*
    from outbox.deliveries as d
    where d.event_seq = $1 and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
)
select distinct on (t.step) t.step, t.state, t.answer::text
from theirs as t
where t.route = $2 and t.step = any ($3::text[])
order by t.step, t.generation desc, t.state = 'delivered', t.id
