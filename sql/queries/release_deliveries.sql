-- Release: deliveries that were claimed and never begun are due at once.
update outbox.deliveries as d
set due_at = clock_timestamp(), claim = null
from unnest($1::uuid[], $2::uuid[]) as t (id, claim)
where d.id = t.id and d.claim = t.claim and d.finished_at is null
