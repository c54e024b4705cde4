-- Prune: among the next $2 deliveries above event $1 in order of event_seq,
-- deletes those of events of which all deliveries were finished longer than
-- $3 seconds ago, with their attempts. An event's deliveries go together:
-- what is left must not look as if the rest had never been sent. As long as
-- the event itself is not processed they stay, since whoever takes it learns
-- from them what has arrived.
--
-- The walk goes by deliveries_event, since no index may mention finished_at.
-- The answer is that of prune_events.sql, in numbers of events. The last
-- event may reach beyond the limit; it is judged, and goes, as a whole.
with near as materialized (
    select d.event_seq, d.created_at, d.finished_at
    from outbox.deliveries as d
    where d.event_seq > $1
    order by d.event_seq
    limit $2
), over as materialized (
    select n.event_seq
    from (select event_seq from near group by event_seq
          having bool_and(finished_at is not null and finished_at < now() - $3::float8 * interval '1 second')) as n
    where not exists (
            select from outbox.deliveries as d
            where d.event_seq = n.event_seq
              and (d.finished_at is null or d.finished_at >= now() - $3::float8 * interval '1 second'))
      and not exists (
            select from public.outbox_events as e where e.seq = n.event_seq and e.processed_at is null)
), doomed as materialized (
    select d.id
    from over
    join outbox.deliveries as d on d.event_seq = over.event_seq
    where d.finished_at < now() - $3::float8 * interval '1 second'
    for update of d skip locked
), attempts as (
    delete from outbox.attempts as a using doomed where a.delivery_id = doomed.id
), gone as (
    delete from outbox.deliveries as d using doomed where d.id = doomed.id returning d.id
)
select (select count(*) from near),
       (select max(n.event_seq) from near as n
        where coalesce(n.finished_at, n.created_at) < now() - $3::float8 * interval '1 second'),
       (select count(*) from gone)
