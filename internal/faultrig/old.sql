-- What a retention is there for: 1,200 events that were processed two months ago,
-- and beside them three that wait for a person since then.
with e as (
    insert into public.outbox_events (type, payload, created_at, processed_at, lease_until)
    select case when n % 400 = 0 then 'old.held' else 'old.done' end, '{}', now() - interval '60 days',
        case when n % 400 <> 0 then now() - interval '60 days' end, case when n % 400 = 0 then timestamptz 'infinity' end
    from generate_series(1, 1203) as n
    returning *
)
insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
    state, attempts, content, created_at, finished_at)
select (encode(substr(int8send(e.seq), 3), 'hex') || substr(md5(e.id::text), 1, 20))::uuid, e.id, e.seq, e.type, e.created_at, 'old', 'old', 'email', '',
    case when e.processed_at is null then 'held' else 'delivered' end, 1, '{}', e.created_at, e.processed_at
from e;
truncate faultrig.changes;
-- A copy of this database would have numbers left of those that are logged ahead, and
-- draw them without a record in its own log: after a crash it would draw them again,
-- and rows that were committed have them. With none left the first one is logged.
select setval('public.outbox_events_seq_seq', last_value) from public.outbox_events_seq_seq;
