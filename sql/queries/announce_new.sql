-- Announce: deliveries that are about to leave for the first time, as
-- "sending", before their first byte does. An event that is no longer held
-- under the claim named here, or whose lease runs out within $15 seconds, is
-- missing in the result, and its delivery must not be sent: it would not be begun
-- any more, and whoever took it next would not know that.
--
-- The row lock makes a take-over wait for this commit: whoever takes the
-- event next sees the row.
with fenced as (
    select r.*
    from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::integer[], $12::integer[], $13::text[], $14::integer[])
         as r (event_seq, claim, id, event_id, event_type, event_created_at, route,
               step, channel, recipient, attempts, generation, content, likeness)
    join public.outbox_events as e on e.seq = r.event_seq and e.claim = r.claim
    where num_nulls(e.processed_at) = 1 and e.lease_until > clock_timestamp() + $15::float8 * interval '1 second'
    for no key update of e
), fresh as (
    insert into outbox.deliveries
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, claim, content, likeness)
    select f.id, f.event_id, f.event_seq, f.event_type, f.event_created_at, f.route, f.step, f.channel, f.recipient,
           'sending', f.attempts, f.generation, f.claim, f.content::json, f.likeness
    from fenced as f
    where not exists (select from outbox.deliveries as d where d.id = f.id)
    returning id
), there as (
    -- written before by this same statement, whose answer was lost, or by a parking
    -- that was recorded first and does not know what the delivery is alike
    update outbox.deliveries as d
    set likeness = f.likeness
    from fenced as f
    where d.id = f.id and d.claim = f.claim and d.state = 'sending'
    returning d.id
)
select id from fresh
union all
select id from there
