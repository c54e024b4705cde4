-- Freeze: events that routes planned, with all their deliveries as they are to
-- be sent, before anything is. $1 has an object for each event: seq, claim, and
-- whether it is parked, which it is unless nothing of it is open. $2 has an object
-- for each delivery; one that nobody goes on with at once is not leased, and has no
-- claim.
--
-- The fence: an event whose claim is no longer the one named here has been
-- taken over; nothing of it is written and its seq is missing in the result. So it is with one that
-- is processed while it is leased: a person has given it up (docs/operate.md), and others may have had
-- its turn.
-- Repeating the statement after a lost answer writes nothing twice.
--
-- What waits for another step is due at no time, not even at its deadline: only
-- what is not due is released. Nor does a lease end with a deadline: whoever claims
-- then would take what is being sent.
--
-- What has an ordering key comes into the line of that name, and is due at no time
-- until it gets the turn: see pass_turns.sql.
--
-- What the ledger has already, of an event that was opened again, keeps its
-- content: those bytes may have been sent.
with fenced as (
    update public.outbox_events as e
    set processed_at = case when t.parked then e.processed_at
                            else coalesce(e.processed_at, clock_timestamp()) end,
        lease_until  = case when t.parked then timestamptz 'infinity' end
    from json_to_recordset($1::json) as t (seq bigint, claim uuid, parked boolean)
    where e.seq = t.seq and e.claim = t.claim
      and (e.processed_at is null or e.lease_until is null or e.lease_until = 'infinity')
    returning e.seq, e.claim
), given as (
    select g.*, case when g.leased then f.claim end as claim,
           coalesce(g.at, clock_timestamp() + g.due_in * interval '1 second') as due_at,
           case when g.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped')
                then clock_timestamp() end as finished_at
    from json_to_recordset($2::json) as g (
        event_seq bigint, id uuid, event_id uuid, event_type text, event_created_at timestamptz,
        route text, step text, channel text, recipient text, state text, attempts integer, generation integer,
        required boolean, last_error text, due_in float8, at timestamptz, content text,
        deadline timestamptz, retry json, supersedes text, after_steps text[], scope text, copy text, instead_of text, leased boolean,
        ordering_key text)
    join fenced as f on f.seq = g.event_seq
), written as (
    insert into outbox.deliveries as d
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, required, last_error, due_at, claim, content,
         deadline, retry, supersedes, after_steps, scope, copy, instead_of, created_at, finished_at, stuck_at, ordering_key, line)
    select g.id, g.event_id, g.event_seq, g.event_type, g.event_created_at, g.route, g.step, g.channel, g.recipient,
           g.state, g.attempts, g.generation, g.required, g.last_error,
           case when g.leased then g.due_at when g.due_at is not null then least(g.due_at, g.deadline) end, g.claim, g.content::json,
           g.deadline, g.retry, g.supersedes, g.after_steps, g.scope::json, g.copy, g.instead_of,
           coalesce(g.finished_at, clock_timestamp()), g.finished_at,
           case when g.state in ('dead', 'held') then clock_timestamp() end, g.ordering_key, g.ordering_key
    from given as g
    on conflict (id) do update
    set state = excluded.state, attempts = excluded.attempts, last_error = excluded.last_error,
        due_at = excluded.due_at, claim = excluded.claim, finished_at = excluded.finished_at,
        held_from = case when excluded.state = 'held' and d.state = 'held' then d.held_from end,
        stuck_at = case when excluded.state in ('dead', 'held') then coalesce(d.stuck_at, excluded.stuck_at) end,
        ordering_key = excluded.ordering_key, line = excluded.line, turn_at = null
    where d.claim = (select f.claim from fenced as f where f.seq = excluded.event_seq) and d.finished_at is null
)
select seq from fenced
