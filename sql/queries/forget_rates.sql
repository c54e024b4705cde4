-- Forget: rates that nobody has asked about for a day.
delete from outbox.rates as r
where r.asked_at < clock_timestamp() - interval '1 day'
