-- Record: the outcome of whole events, and all their deliveries, in one
-- statement. $1..$3 are the events (seq, claim, parked), the other arrays
-- their deliveries, row by row.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result.
-- Repeating the statement after a lost answer writes nothing twice.
--
-- A parked event has deliveries that are not finished. They live on in the
-- ledger with a due time of their own; the event keeps processed_at null and
-- is out of the way of claims until they are.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when t.parked then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when t.parked then timestamptz 'infinity' end
    from unnest($1::bigint[], $2::uuid[], $3::boolean[]) as t (seq, claim, parked)
    where e.seq = t.seq and e.claim = t.claim
    returning e.seq
), given as (
    select r.*, case when r.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped')
                     then clock_timestamp() end as finished_at
    from unnest($4::bigint[], $5::uuid[], $6::uuid[], $7::text[], $8::timestamptz[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
                $14::integer[], $15::integer[], $16::text[], $17::text[], $18::float8[],
                $19::uuid[], $20::text[])
         as r (event_seq, id, event_id, event_type, event_created_at,
               route, step, channel, recipient, state,
               attempts, generation, provider_id, last_error, due_in,
               claim, content)
    join fenced on fenced.seq = r.event_seq
), known as (
    -- rows that are in the ledger already, under this same claim
    update outbox.deliveries as d
    set state       = g.state,
        attempts    = g.attempts,
        provider_id = g.provider_id,
        last_error  = g.last_error,
        due_at      = clock_timestamp() + g.due_in * interval '1 second',
        content     = g.content::json,
        finished_at = g.finished_at
    from given as g
    where d.id = g.id and d.claim = g.claim and d.finished_at is null
), fresh as (
    insert into outbox.deliveries
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, provider_id, last_error, due_at, claim, content, finished_at)
    select g.id, g.event_id, g.event_seq, g.event_type, g.event_created_at, g.route, g.step, g.channel, g.recipient,
           g.state, g.attempts, g.generation, g.provider_id, g.last_error,
           clock_timestamp() + g.due_in * interval '1 second', g.claim, g.content::json, g.finished_at
    from given as g
    where not exists (select from outbox.deliveries as d where d.id = g.id)
)
select seq from fenced
