-- Freeze: the content of a delivery that waited for others and is rendered now.
-- One that is no longer held under the claim named here is missing in the result.
update outbox.deliveries as d
set content = $3::json, recipient = $4, copy = coalesce($5, d.copy), scope = null, after_steps = null
where d.id = $1 and d.claim = $2 and d.finished_at is null
returning d.id
