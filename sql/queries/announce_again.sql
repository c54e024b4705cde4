-- Announce: deliveries that are in the ledger already and are about to leave
-- again. One that is no longer held under the claim named here is missing in
-- the result and must not be sent.
update outbox.deliveries as d
set state = 'sending', attempts = t.attempts
from unnest($1::uuid[], $2::uuid[], $3::integer[]) as t (id, claim, attempts)
where d.id = t.id and d.claim = t.claim and d.finished_at is null
  and (d.due_at is null or d.due_at > clock_timestamp())
returning d.id
