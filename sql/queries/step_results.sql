-- What came of the steps $3 of route $2 for event $1: state and answer. Where a step has
-- several deliveries, one that was not delivered stands for all. Those that were replaced
-- (see replay_deliveries.sql and sql/triggers/reopen.sql) count where nothing else does. Of
-- several answers that of the newest plan is taken, by the number that the event had
-- then, with which ids begin.
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
order by t.step, t.claim is not distinct from '{{replaced}}', t.state = 'delivered',
         substr(uuid_send(t.id), 1, 6) desc, t.generation desc, t.id
