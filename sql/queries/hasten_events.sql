-- Hasten: events of type $3 with $1 < seq <= $2 that are put off (release_events.sql) are due, at
-- most $4 of them, the lowest first. Nobody has them, so whoever claims them meanwhile does no harm: the row is locked then,
-- and left out. The answer is the highest of these, or 0.
with put_off as materialized (
    select e.seq
    from public.outbox_events as e
    where e.seq > $1 and e.seq <= $2
      and num_nulls(e.processed_at) = 1
      and e.claim = '{{put_off}}' and e.lease_until > clock_timestamp()
      and left(coalesce(e.type, ''), 200) = $3
    order by e.seq
    limit $4
    for no key update skip locked
), hastened as (
    update public.outbox_events as e
    set lease_until = clock_timestamp()
    where e.seq = any (array(select seq from put_off))
    returning e.seq
)
select coalesce(max(seq), 0) from hastened
