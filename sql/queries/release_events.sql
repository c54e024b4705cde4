-- Release: events that were claimed and never begun are free at once.
update public.outbox_events as e
set lease_until = null
from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
where e.seq = t.seq and e.claim = t.claim and e.processed_at is null
  and e.lease_until is distinct from 'infinity'
