-- Deliveries other than $1 that the provider may not be able to tell from it, by
-- their likeness ($2): that has few bits, so that a stranger may be among them. One
-- that was over $3 seconds ago has nothing that came to be since.
select d.state, d.attempts, coalesce(d.provider_id, '')
from outbox.deliveries as d
where d.likeness = $2 and d.id <> $1
  and (d.finished_at is null or d.finished_at > clock_timestamp() - $3::float8 * interval '1 second')
