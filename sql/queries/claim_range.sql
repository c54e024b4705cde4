-- Claim: as claim_events.sql, of the numbers from $1 + 1 on, as many as $2 for each of the claims $4. In a
-- backlog of which nobody has claimed anything yet each of them is an event that is due, and then this is
-- what claim_events.sql would bring, for two thirds of what that costs: rows need not be looked for, put in order
-- and locked before they are leased. Where it brings fewer the caller asks claim_events.sql for the others: of
-- the same numbers, where few are missing.
--
-- It leases what was never claimed ("fresh": an event keeps its last claim), so that nothing need be said of
-- what was. The lease is for $3 seconds; $5 is the $6 of claim_events.sql.
--
-- It waits for a row that somebody has locked, where claim_events.sql skips it. So the caller bounds that, for
-- each row and for all of them, and asks claim_events.sql where it took longer.
update public.outbox_events as e
set lease_until = clock_timestamp() + $3::float8 * interval '1 second',
    claim       = ($4::uuid[])[1 + (e.seq - $1::bigint - 1) / $2::bigint]
where e.seq > $1::bigint and e.seq <= $1::bigint + $2::bigint * cardinality($4::uuid[])
  and num_nulls(e.processed_at) = 1 and e.lease_until is null and e.claim is null
returning e.seq, e.id, left(coalesce(e.type, ''), 200),
    case when isfinite(e.created_at) then e.created_at else timestamptz 'epoch' end,
    case when coalesce(pg_column_size(e.payload), 0) <= $5::integer then
        (select case when octet_length(p.t) <= $5::integer then p.t end
         from (select coalesce(e.payload::text, 'null') as t offset 0) as p) end
