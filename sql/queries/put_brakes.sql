-- Brake: nothing is sent to the destinations $1 for $4 seconds each, since $3
-- attempts failed there by the reasons $2; and then one may try, a second from now at
-- the earliest. What is braked already is so for no shorter time. The result says which
-- are new.
insert into outbox.brakes as b (destination, reason, failures, until, probe_at)
select t.destination, t.reason, t.failures, now.at + t.wait * interval '1 second', now.at + greatest(t.wait, 1) * interval '1 second'
from unnest($1::text[], $2::text[], $3::bigint[], $4::float8[]) as t (destination, reason, failures, wait)
cross join (select clock_timestamp() as at) as now
order by t.destination
on conflict (destination) do update
set reason = excluded.reason, failures = b.failures + excluded.failures,
    until = greatest(b.until, excluded.until), probe_at = greatest(b.probe_at, excluded.until)
returning destination, b.xmax = 0
