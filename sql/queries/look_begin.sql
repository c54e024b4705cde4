-- What the ledger knows of delivery $1, held under claim $2, before its provider is
-- asked whether it has it: what it is known to be there, what it is alike by, the
-- seconds since it was first attempted, the looks so far, and what time it is.
select coalesce(d.provider_id, ''), d.likeness,
    extract(epoch from clock_timestamp() - coalesce(d.announced_at, d.created_at))::float8,
    coalesce(d.looks, '[]')::text, clock_timestamp()
from outbox.deliveries as d
where d.id = $1 and d.claim = $2 and d.finished_at is null
