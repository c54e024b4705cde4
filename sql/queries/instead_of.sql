-- How the step $3 of route $2 stands for event $1, for what is sent instead of it: its
-- state, what its provider reported and why, whether it may have arrived, and the
-- seconds since it is over. Of several deliveries that of the newest plan counts, by the
-- number that the event had then, with which ids begin, and of these the newest
-- generation, which is what a person had sent again. One that was replaced counts
-- where nothing else does: see step_results.sql. recall_instead.sql has the same order.
--
-- unclear: not each of its attempts is on record as not taken; see
-- judge_deliveries.sql. What cancels older events' deliveries may have the step's name,
-- and has no channel.
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
select t.state, coalesce(t.receipt, ''), coalesce(t.receipt_code, ''),
       t.attempts <> (select count(*) from outbox.attempts as a where a.delivery_id = t.id and a.kind <> 'unknown') as unclear,
       coalesce(extract(epoch from clock_timestamp() - t.finished_at), 0)::float8
from theirs as t
where t.route = $2 and t.step = $3 and t.channel <> ''
order by t.claim is not distinct from '{{replaced}}', substr(uuid_send(t.id), 1, 6) desc, t.generation desc, t.id
limit 1
