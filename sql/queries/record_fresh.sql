-- Record: the outcome of events that have one delivery each, of which the
-- ledger cannot know anything: the event was never claimed before and nothing
-- was announced. $18 says which events are parked. What record_events.sql asks
-- the ledger first, this one leaves to its primary key: where a delivery is
-- there all the same (the answer to this very statement was lost, say), it
-- fails as a whole and record_events.sql takes over.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when t.parked then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when t.parked then timestamptz 'infinity' end
    from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[],
                $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::integer[], $12::integer[], $13::text[], $14::text[], $15::float8[],
                $16::uuid[], $17::text[], $18::boolean[])
         as t (event_seq, id, event_id, event_type, event_created_at,
               route, step, channel, recipient, state,
               attempts, generation, provider_id, last_error, due_in,
               claim, content, parked)
    where e.seq = t.event_seq and e.claim = t.claim
    returning t.*, clock_timestamp() as at
)
insert into outbox.deliveries
    (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
     state, attempts, generation, provider_id, last_error, due_at, claim, content, created_at, finished_at)
select g.id, g.event_id, g.event_seq, g.event_type, g.event_created_at, g.route, g.step, g.channel, g.recipient,
       g.state, g.attempts, g.generation, g.provider_id, g.last_error,
       g.at + g.due_in * interval '1 second', g.claim, g.content::json, g.at,
       case when g.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped') then g.at end
from fenced as g
returning event_seq
