-- Record: the outcome of events that have one delivery each, of which the
-- ledger cannot know anything: the event was never claimed before and nothing
-- was announced. $14 says which events are parked, null that none is. What record_events.sql asks
-- the ledger first, this one leaves to its primary key: where a delivery is
-- there all the same (the answer to this very statement was lost, say), it
-- fails as a whole and record_events.sql takes over.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result.
-- A delivery that has its outcome is nobody's, so that it has no claim.
--
-- The seqs ($1) must be in order: width_bucket finds an event's place in the
-- arrays. The update takes its rows by an array, not by a join, for the reason
-- that claim_events.sql gives; what it returns is joined by hashing, and the
-- plan must be held to that.
--
-- The arrays are unnested side by side in the select list, which costs half of
-- what it does in FROM, where each would be stored on the way; what the event's
-- row has anyway comes from there, as claim_events.sql gave it. Of the columns that are
-- null in no row, one whose array has a single element has it in all rows; of the others,
-- one whose array is null is null in all.
--
-- The answer is the seqs that were written; null when that is all of them, which is
-- nearly always and costs less to say.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when $14::boolean[] is not null and ($14::boolean[])[width_bucket(e.seq, $1::bigint[])]
                            then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when $14::boolean[] is not null and ($14::boolean[])[width_bucket(e.seq, $1::bigint[])]
                            then timestamptz 'infinity' end
    where e.seq = any ($1::bigint[])
      and e.claim = ($2::uuid[])[width_bucket(e.seq, $1::bigint[])]
    returning e.seq, clock_timestamp() as at, e.id as event_id, left(coalesce(e.type, ''), 200) as event_type,
        case when isfinite(e.created_at) then e.created_at else timestamptz 'epoch' end as event_created_at
)
, written as (insert into outbox.deliveries
    (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
     state, attempts, provider_id, last_error, due_at, content, created_at, finished_at, stuck_at)
select t.id, f.event_id, f.seq, f.event_type, f.event_created_at,
       coalesce(t.route, ($4::text[])[1]), coalesce(t.step, ($5::text[])[1]), coalesce(t.channel, ($6::text[])[1]),
       coalesce(t.recipient, ($7::text[])[1]), coalesce(t.state, ($8::text[])[1]), coalesce(t.attempts, ($9::integer[])[1]),
       t.provider_id, t.last_error, f.at + t.due_in * interval '1 second', t.content::json, f.at,
       case when coalesce(t.state, ($8::text[])[1]) in ('delivered', 'dead', 'expired', 'canceled', 'skipped') then f.at end,
       case when coalesce(t.state, ($8::text[])[1]) in ('dead', 'held') then f.at end
from (select unnest($1::bigint[]) as seq, unnest($3::uuid[]) as id,
             unnest($4::text[]) as route, unnest($5::text[]) as step, unnest($6::text[]) as channel,
             unnest($7::text[]) as recipient, unnest($8::text[]) as state, unnest($9::integer[]) as attempts,
             unnest($10::text[]) as provider_id, unnest($11::text[]) as last_error, unnest($12::float8[]) as due_in,
             unnest($13::text[]) as content) as t
join fenced as f on f.seq = t.seq
)
select case when count(*) < cardinality($1::bigint[]) then coalesce(array_agg(seq), '{}') end from fenced
