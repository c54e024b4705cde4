-- Raises the floor to the highest number below which nothing is left to
-- claim, at most $1 and at most what was handed out: after a failover the
-- caller may remember more than this server does. Parked events do not hold it.
update outbox.state as s
set floor = n.floor
from (
    select least($1::bigint, (select last_value from public.outbox_events_seq_seq), coalesce((
        select e.seq - 1
        from public.outbox_events as e
        where e.seq > o.floor and e.seq <= $1
          and num_nulls(e.processed_at) = 1
          and e.lease_until is distinct from 'infinity'
        order by e.seq
        limit 1), $1)) as floor
    from outbox.state as o
) as n
where s.floor < n.floor
returning s.floor
