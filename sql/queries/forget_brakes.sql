-- Forget: brakes of destinations to which nobody wanted to send anything for an
-- hour. Whoever came would be let through in any case.
delete from outbox.brakes as b
where greatest(b.until, b.probe_at) < clock_timestamp() - interval '1 hour'
