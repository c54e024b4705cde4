-- Adopt: what the ledger already knows of events that were claimed before,
-- by a listener that died or lost its lease, or that were opened again. The
-- open rows pass to the new claim, so that their former holder can write
-- nothing more. $1..$2 are seq and claim of the events.
with fenced as (
    select e.seq, e.claim
    from public.outbox_events as e
    join unnest($1::bigint[], $2::uuid[]) as t (seq, claim) on e.seq = t.seq and e.claim = t.claim
    where e.processed_at is null
    for no key update of e
), passed as (
    update outbox.deliveries as d set claim = f.claim, due_at = null
    from fenced as f
    where d.event_seq = f.seq and d.finished_at is null
)
select d.event_seq, d.id, d.route, d.step, d.recipient, d.channel, d.state, d.attempts, d.generation, d.content::text
from outbox.deliveries as d
join fenced as f on d.event_seq = f.seq
