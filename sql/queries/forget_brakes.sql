-- Forget: brakes of destinations to which nobody wanted to send anything for an
-- hour. Whoever came would be let through in any case. One that somebody has locked is
-- left to another time: what is to be put in this transaction does not wait for it.
delete from outbox.brakes as b
where b.destination in (
    select old.destination from outbox.brakes as old
    where greatest(old.until, old.probe_at) < clock_timestamp() - interval '1 hour'
    for update skip locked)
