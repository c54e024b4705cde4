-- Deliveries that were dead or held before there was a note of it. By itself,
-- since it reads the whole ledger and nobody must wait for that.
update outbox.deliveries
set stuck_at = coalesce(finished_at, created_at)
where state in ('dead', 'held') and stuck_at is null;
