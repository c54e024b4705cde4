-- Claim: lease events with $1 < seq <= $2 for $4 seconds, up to $3 of them
-- under each of the claims $5, fresh uuids, which every later write of theirs
-- must name. The result is unordered; its last column says which of the claims,
-- from 1.
--
-- Several claims at once cost what one large one does; one after the other,
-- each would walk over the rows of those before it. width_bucket finds the one
-- that an event belongs to by where each of them begins.
--
-- MATERIALIZED keeps the planner from running the LIMIT more than once and
-- leasing more rows than asked for. The order is that of the index
-- outbox_events_seq, which is also what bounds the work: no index mentions
-- processed_at, so that this update and the completion stay HOT.
--
-- num_nulls(processed_at) = 1 is processed_at is null in words that fit no index. Whoever polled the table may have
-- one of what is open, and where the statistics say that hardly anything is, a walk over all of that looks
-- cheaper to the planner than one of our range. So it is wherever else that could be (TestIndexesOfTheApplication).
--
-- The update takes its rows by an array, not by a join: a plan that was made
-- while the table was empty might run a join backwards, over all of the table
-- for each claim, and be kept for hours.
--
-- A payload of more than $6 bytes of text stays behind (null here) and is
-- read by load_payload.sql when its turn comes, so that a batch of giants
-- does not fill the memory; their stored size tells most of them without
-- unpacking them.
--
-- The lease of what was put off (release_events.sql) was nobody's, and has not run out on
-- anybody.
--
-- An adopted table may have nulls where ours has none, and a time that no
-- calendar has: they must not stop their neighbours.
with due as materialized (
    select seq, claim is not null as claimed_before,
        lease_until is not null and claim is distinct from '{{put_off}}' as ran_out,
        lease_until is not null and claim = '{{put_off}}' as put_off
    from public.outbox_events
    where seq > $1 and seq <= $2
      and num_nulls(processed_at) = 1
      and (lease_until is null or lease_until < clock_timestamp())
    order by seq
    limit $3::integer * cardinality($5::uuid[])
    for no key update skip locked
), starts as materialized (
    select array_agg(seq order by seq) as seqs
    from (select seq, row_number() over (order by seq) as n from due) as numbered
    where (n - 1) % $3::integer = 0
)
update public.outbox_events as e
set lease_until = clock_timestamp() + $4::float8 * interval '1 second',
    claim       = ($5::uuid[])[width_bucket(e.seq, (select seqs from starts))]
where e.seq = any (array(select seq from due))
returning e.seq, e.id, left(coalesce(e.type, ''), 200),
    case when isfinite(e.created_at) then e.created_at else timestamptz 'epoch' end,
    e.seq = any (array(select seq from due where claimed_before)),
    e.seq = any (array(select seq from due where ran_out)),
    e.seq = any (array(select seq from due where put_off)),
    case when coalesce(pg_column_size(e.payload), 0) <= $6::integer then
        (select case when octet_length(p.t) <= $6::integer then p.t end
         from (select coalesce(e.payload::text, 'null') as t offset 0) as p) end,
    width_bucket(e.seq, (select seqs from starts))
