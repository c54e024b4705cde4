-- Renew: the leases of deliveries $1, each under its claim $2, for $3 seconds
-- from now. One that was taken over is missing in the result, and so is one
-- that is due later than that: its outcome is on record.
update outbox.deliveries as d
set due_at = clock_timestamp() + $3::float8 * interval '1 second'
from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
where d.id = t.id and d.claim = t.claim and d.finished_at is null
  and d.due_at < clock_timestamp() + $3::float8 * interval '1 second'
returning d.id, d.claim
