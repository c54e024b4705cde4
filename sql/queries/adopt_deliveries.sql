-- Adopt: what the ledger already knows of events that were claimed before,
-- by a listener that died or lost its lease, or that were opened again. The
-- open rows pass to the new claim, so that their former holder can write
-- nothing more. $1..$2 are seq and claim of the events. What is scheduled keeps its
-- time, also where the plan is not made after all, and so does what a person held
-- meanwhile.
--
-- Locked before they are read: who holds one of them by itself, as a delivery
-- that was due, may be announcing it, and what is adopted must not be what it was
-- before that.
--
-- An id begins with 48 bits of the seq that it was made under; those that an
-- event brought along from another place are in the index deliveries_moved.
-- Nothing is in both. An OR in place of the union would need a bitmap scan.
with fenced as (
    select e.seq, e.claim
    from public.outbox_events as e
    join unnest($1::bigint[], $2::uuid[]) as t (seq, claim) on e.seq = t.seq and e.claim = t.claim
    where num_nulls(e.processed_at) = 1
    for no key update of e
), here as materialized (
    select d.*, f.claim as successor
    from fenced as f
    join outbox.deliveries as d on d.event_seq = f.seq
     and d.id between (encode(substr(int8send(f.seq), 3), 'hex') || repeat('0', 20))::uuid
                  and (encode(substr(int8send(f.seq), 3), 'hex') || repeat('f', 20))::uuid
    for no key update of d
), moved as materialized (
    select d.*, f.claim as successor
    from fenced as f
    join outbox.deliveries as d on d.event_seq = f.seq
     and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
    for no key update of d
), theirs as (
    select * from here
    union all
    select * from moved
), passed as (
    update outbox.deliveries as d set claim = t.successor, due_at = case when d.state in ('scheduled', 'held') then d.due_at end
    from theirs as t
    where d.id = t.id and d.finished_at is null
)
select event_seq, id, route, step, recipient, channel, state, attempts, generation, content::text,
    case when state in ('scheduled', 'held') and isfinite(due_at) then due_at end,
    deadline <= clock_timestamp(), retry::text, supersedes, after_steps, scope::text, instead_of, ordering_key,
    coalesce(provider_id, ''), coalesce(last_error, ''), required
from theirs
