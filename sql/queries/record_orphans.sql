-- Record: deliveries whose event was deleted while they were being sent, so
-- that what left is on record all the same. The arrays are those of
-- record_events.sql from the fourth on; the answer is the ids written.
-- As there, note_held.sql follows.
with given as (
    select r.*, case when r.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped')
                     then clock_timestamp() end as finished_at
    from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[],
                $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                $11::integer[], $12::integer[], $13::text[], $14::text[], $15::float8[],
                $16::uuid[], $17::text[], $18::boolean[])
         as r (event_seq, id, event_id, event_type, event_created_at,
               route, step, channel, recipient, state,
               attempts, generation, provider_id, last_error, due_in,
               claim, content, leased)
    where not exists (select from public.outbox_events as e where e.id = r.event_id)
), known as (
    update outbox.deliveries as d
    set state       = g.state,
        attempts    = g.attempts,
        provider_id = coalesce(g.provider_id, d.provider_id),
        last_error  = g.last_error,
        due_at      = clock_timestamp() + g.due_in * interval '1 second',
        claim       = case when g.leased then d.claim end,
        content     = g.content::json,
        held_from   = case when g.state = 'held' and d.state = 'held' then d.held_from end,
        finished_at = g.finished_at,
        stuck_at    = case when g.state = 'dead' or g.state = 'held' and d.state = 'held' then coalesce(d.stuck_at, clock_timestamp()) end
    from given as g
    where d.id = g.id and d.claim = g.claim and d.finished_at is null
    returning d.id
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
    returning id
)
select id from known union all select id from fresh
