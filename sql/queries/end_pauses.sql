-- Resume: ends the pauses that $1 and $2 name, pair by pair. One that there was
-- not is missing in the result.
delete from outbox.pauses as p
using unnest($1::text[], $2::text[]) as t (kind, pattern)
where p.kind = t.kind and p.pattern = t.pattern
returning p.kind, p.pattern
