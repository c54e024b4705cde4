-- Record: the outcome of events that have one delivery each, of which the
-- ledger cannot know anything: the event was never claimed before and nothing
-- was announced. $14 says which events are parked. What record_events.sql asks
-- the ledger first, this one leaves to its primary key: where a delivery is
-- there all the same (the answer to this very statement was lost, say), it
-- fails as a whole and record_events.sql takes over.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result.
--
-- The arrays are unnested side by side in the select list, which costs half of
-- what it does in FROM, where each would be stored on the way; what the event's
-- row has anyway comes from there, as claim_events.sql gave it.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when t.parked then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when t.parked then timestamptz 'infinity' end
    from (select unnest($1::bigint[]) as event_seq, unnest($2::uuid[]) as claim, unnest($3::uuid[]) as id,
                 unnest($4::text[]) as route, unnest($5::text[]) as step, unnest($6::text[]) as channel,
                 unnest($7::text[]) as recipient, unnest($8::text[]) as state, unnest($9::integer[]) as attempts,
                 unnest($10::text[]) as provider_id, unnest($11::text[]) as last_error, unnest($12::float8[]) as due_in,
                 unnest($13::text[]) as content, unnest($14::boolean[]) as parked) as t
    where e.seq = t.event_seq and e.claim = t.claim
    returning t.*, clock_timestamp() as at, e.id as event_id, left(coalesce(e.type, ''), 200) as event_type,
        case when isfinite(e.created_at) then e.created_at else timestamptz 'epoch' end as event_created_at
)
insert into outbox.deliveries
    (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
     state, attempts, provider_id, last_error, due_at, claim, content, created_at, finished_at)
select f.id, f.event_id, f.event_seq, f.event_type, f.event_created_at, f.route, f.step, f.channel, f.recipient,
       f.state, f.attempts, f.provider_id, f.last_error,
       f.at + f.due_in * interval '1 second', f.claim, f.content::json, f.at,
       case when f.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped') then f.at end
from fenced as f
returning event_seq
