-- Renew: the leases of events $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result.
update public.outbox_events as e
set lease_until = clock_timestamp() + $3::float8 * interval '1 second'
from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
where e.seq = t.seq and e.claim = t.claim and e.processed_at is null
  and e.lease_until is distinct from 'infinity'
returning e.seq, e.claim
