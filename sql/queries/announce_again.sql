-- Announce: deliveries that are in the ledger already and are about to leave
-- again. One that is no longer held under the claim named here, or not for more
-- than $5 seconds, is missing in the result and must not be sent.
--
-- One that the provider has reported to have is missing, too: whoever takes it next
-- sees that it was delivered.
--
-- The time that is kept is that of the first attempt: what an earlier one left at
-- the provider may be found after a later one.
update outbox.deliveries as d
set state = 'sending', attempts = t.attempts, likeness = t.likeness,
    announced_at = case when d.attempts = 0 then clock_timestamp() else d.announced_at end
from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[]) as t (id, claim, attempts, likeness)
where d.id = t.id and d.claim = t.claim and d.finished_at is null
  and (d.due_at is null or d.due_at > clock_timestamp() + $5::float8 * interval '1 second')
  and d.provider_id is null
returning d.id
