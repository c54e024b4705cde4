-- Times on record that are far from now, where a run takes minutes at most. What the
-- rig has put there, and what never ends, is left out.
select format('%s.%s of %s is %s from now', what, which, id, at - clock_timestamp())
from (
    select 'outbox_events' as what, t.which, e.id::text, t.at
    from public.outbox_events as e
    cross join lateral (values ('created_at', e.created_at), ('processed_at', e.processed_at), ('lease_until', e.lease_until)) as t (which, at)
    where e.type not like 'old.%'
    union all
    select 'deliveries', t.which, d.id::text, t.at
    from outbox.deliveries as d
    cross join lateral (values ('created_at', d.created_at), ('event_created_at', d.event_created_at), ('due_at', d.due_at),
                               ('finished_at', d.finished_at), ('stuck_at', d.stuck_at)) as t (which, at)
    where d.event_type not like 'old.%'
    union all
    select 'deliveries', 'looks', d.id::text, (l->>'at')::timestamptz
    from outbox.deliveries as d, jsonb_array_elements(d.looks) as l
    where d.event_type not like 'old.%'
    union all
    select 'attempts', 'at', a.delivery_id::text, a.at
    from outbox.attempts as a
) as t
where isfinite(at) and at not between clock_timestamp() - interval '30 minutes' and clock_timestamp() + interval '30 minutes'
order by 1
limit 20
