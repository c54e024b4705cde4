-- Prune: among the next $2 deliveries above event $1 in order of their ids,
-- deletes those of events of which all deliveries were finished longer than
-- $3 seconds ago, with their attempts. An event's deliveries go together:
-- what is left must not look as if the rest had never been sent. As long as
-- the event itself is not processed they stay, since whoever takes it learns
-- from them what has arrived.
--
-- The walk goes by the primary key, since no index may mention finished_at:
-- an id begins with 48 bits of the number that the event had when it was
-- made. All deliveries of an event are found as adopt_deliveries.sql says.
-- The answer is that of prune_events.sql, in numbers of events. The last
-- event may reach beyond the limit; it is judged, and goes, as a whole. The
-- event is asked for by a value: an anti join would read all events, where the
-- statistics say that none is open.
with near as materialized (
    select d.id, d.event_seq, d.created_at, d.finished_at
    from outbox.deliveries as d
    where d.id > (encode(substr(int8send($1), 3), 'hex') || repeat('f', 20))::uuid
    order by d.id
    limit $2
), likely as materialized (
    select n.event_seq as seq
    from near as n
    group by n.event_seq
    having bool_and(n.finished_at is not null and n.finished_at < now() - $3::float8 * interval '1 second')
), over as materialized (
    select t.seq, array_agg(t.id) as ids
    from (
        select l.seq, d.id, d.finished_at
        from likely as l
        join outbox.deliveries as d on d.event_seq = l.seq
         and d.id between (encode(substr(int8send(l.seq), 3), 'hex') || repeat('0', 20))::uuid
                      and (encode(substr(int8send(l.seq), 3), 'hex') || repeat('f', 20))::uuid
        union all
        select l.seq, d.id, d.finished_at
        from likely as l
        join outbox.deliveries as d on d.event_seq = l.seq
         and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
    ) as t
    where (select e.processed_at is null from public.outbox_events as e where e.seq = t.seq) is not true
    group by t.seq
    having bool_and(t.finished_at is not null and t.finished_at < now() - $3::float8 * interval '1 second')
), doomed as materialized (
    select d.id
    from (select seq, unnest(ids) as id from over) as o
    join outbox.deliveries as d on d.id = o.id and d.event_seq = o.seq
    where d.finished_at < now() - $3::float8 * interval '1 second'
    for update of d skip locked
), attempts as (
    delete from outbox.attempts as a using doomed where a.delivery_id = doomed.id
), gone as (
    delete from outbox.deliveries as d using doomed where d.id = doomed.id returning d.id
)
select (select count(*) from near),
       (select ('x' || encode(substr(uuid_send(n.id), 1, 6), 'hex'))::bit(48)::bigint
        from near as n
        where coalesce(n.finished_at, n.created_at) < now() - $3::float8 * interval '1 second'
        order by n.id desc
        limit 1),
       (select count(*) from gone)
