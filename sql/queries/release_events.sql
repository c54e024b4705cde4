-- Release: events that were claimed and never begun are free at once. The
-- claim changes, so that a renewal that is under way finds them no more; it
-- does not become null, which would say that nobody ever had them.
update public.outbox_events as e
set lease_until = null, claim = gen_random_uuid()
from unnest($1::bigint[], $2::uuid[]) as t (seq, claim)
where e.seq = t.seq and e.claim = t.claim and e.processed_at is null
  and e.lease_until is distinct from 'infinity'
