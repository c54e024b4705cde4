-- Announce: deliveries that are about to leave for the first time, as
-- "sending", before their first byte does. $1..$2 are seq and claim of their
-- events; an event that is no longer held under that claim, or not for long
-- enough, is missing in the result, and its delivery must not be sent.
--
-- The row lock makes a take-over wait for this commit: whoever takes the
-- event next sees the row.
with fenced as (
    select e.seq
    from public.outbox_events as e
    join unnest($1::bigint[], $2::uuid[]) as t (seq, claim) on e.seq = t.seq and e.claim = t.claim
    where e.processed_at is null and e.lease_until > clock_timestamp()
    for no key update of e
), given as (
    select r.*
    from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::integer[], $12::integer[], $13::text[])
         as r (event_seq, claim, id, event_id, event_type, event_created_at, route,
               step, channel, recipient, attempts, generation, content)
    join fenced on fenced.seq = r.event_seq
), fresh as (
    insert into outbox.deliveries
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, claim, content)
    select g.id, g.event_id, g.event_seq, g.event_type, g.event_created_at, g.route, g.step, g.channel, g.recipient,
           'sending', g.attempts, g.generation, g.claim, g.content::json
    from given as g
    where not exists (select from outbox.deliveries as d where d.id = g.id)
    returning id
)
select id from fresh
union all
-- written before by this same statement, whose answer was lost
select d.id from outbox.deliveries as d join given as g on d.id = g.id and d.claim = g.claim and d.state = 'sending'
