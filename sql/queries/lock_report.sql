-- Lock: what is alike delivery $1, where its provider is not known yet to have it, until
-- the transaction ends: as lock_likeness.sql. Runs before note_report.sql.
select pg_advisory_xact_lock(hashtextextended('outbox likeness ' || d.likeness, 0))
from outbox.deliveries as d
where d.id = $1 and d.likeness is not null and d.provider_id is null
