-- Record: the outcome of whole events, and all their deliveries, in one
-- statement. The first arrays have one row for each event, with its first
-- delivery (id is null where it has none); $19 says which events are parked.
-- The arrays from $20 on have the further deliveries of those that have more.
-- A delivery that is not leased any more ($18, $37) is nobody's: without a claim.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result.
-- Repeating the statement after a lost answer writes nothing twice.
--
-- A parked event has deliveries that are not finished. They live on in the
-- ledger with a due time of their own; the event keeps processed_at null and
-- is out of the way of claims until they are.
--
-- What the ledger had, and is held now and was not before, has no stuck_at yet:
-- note_held.sql follows, in the same transaction.
--
-- The deliveries come back from the update itself instead of being joined to
-- it: with plans held to index walks, joining two results of a thousand rows
-- means a million comparisons.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when t.parked then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when t.parked then timestamptz 'infinity' end
    from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[],
                $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::integer[], $12::integer[], $13::text[], $14::text[], $15::float8[],
                $16::uuid[], $17::text[], $18::boolean[], $19::boolean[])
         as t (event_seq, id, event_id, event_type, event_created_at,
               route, step, channel, recipient, state,
               attempts, generation, provider_id, last_error, due_in,
               claim, content, leased, parked)
    where e.seq = t.event_seq and e.claim = t.claim
    returning t.*
), given as (
    select g.*, case when g.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped')
                     then clock_timestamp() end as finished_at
    from (
        select event_seq, id, event_id, event_type, event_created_at, route, step, channel, recipient, state,
               attempts, generation, provider_id, last_error, due_in, claim, content, leased
        from fenced
        where id is not null
        union all
        select x.*
        from unnest($20::bigint[], $21::uuid[], $22::uuid[], $23::text[], $24::timestamptz[],
                    $25::text[], $26::text[], $27::text[], $28::text[], $29::text[],
                    $30::integer[], $31::integer[], $32::text[], $33::text[], $34::float8[],
                    $35::uuid[], $36::text[], $37::boolean[])
             as x (event_seq, id, event_id, event_type, event_created_at,
                   route, step, channel, recipient, state,
                   attempts, generation, provider_id, last_error, due_in,
                   claim, content, leased)
        where x.event_seq in (select event_seq from fenced)
    ) as g
), known as (
    -- rows that are in the ledger already, under this same claim
    update outbox.deliveries as d
    set state       = g.state,
        attempts    = g.attempts,
        provider_id = coalesce(g.provider_id, d.provider_id),  -- a look may have found it since the row was made
        last_error  = g.last_error,
        due_at      = clock_timestamp() + g.due_in * interval '1 second',
        claim       = case when g.leased then d.claim end,
        content     = g.content::json,
        held_from   = case when g.state = 'held' and d.state = 'held' then d.held_from end,
        finished_at = g.finished_at,
        stuck_at    = case when g.state = 'dead' or g.state = 'held' and d.state = 'held' then coalesce(d.stuck_at, clock_timestamp()) end
    from given as g
    where d.id = g.id and d.claim = g.claim and d.finished_at is null
), fresh as (
    insert into outbox.deliveries
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, provider_id, last_error, due_at, claim, content, finished_at, created_at, stuck_at)
    select g.id, g.event_id, g.event_seq, g.event_type, g.event_created_at, g.route, g.step, g.channel, g.recipient,
           g.state, g.attempts, g.generation, g.provider_id, g.last_error,
           clock_timestamp() + g.due_in * interval '1 second', case when g.leased then g.claim end, g.content::json, g.finished_at,
           coalesce(g.finished_at, clock_timestamp()), case when g.state in ('dead', 'held') then clock_timestamp() end
    from given as g
    where not exists (select from outbox.deliveries as d where d.id = g.id)
)
select event_seq from fenced
