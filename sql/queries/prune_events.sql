-- Prune: of the next $2 events above $1 in order of seq, deletes those that
-- were processed longer than $3 seconds ago. One with a delivery that is not
-- finished stays, whatever its age.
--
-- The walk goes by outbox_events_seq, since an index on processed_at would
-- forbid HOT updates. So the answer says how far it came: how many rows were
-- looked at, the last of them that is old or waits in the ledger since then
-- (null: none is, so there is no use in going on), and how many were deleted.
-- What somebody else holds a lock on is passed over; the locked rows are
-- looked at again as they are then, so that one which was opened again
-- meanwhile stays. The deliveries are found as adopt_deliveries.sql says.
with near as materialized (
    select e.seq, e.created_at, e.processed_at, e.lease_until
    from public.outbox_events as e
    where e.seq > $1
    order by e.seq
    limit $2
), doomed as materialized (
    select e.seq
    from near as n
    join public.outbox_events as e on e.seq = n.seq
    where n.processed_at < now() - $3::float8 * interval '1 second'
      and e.processed_at < now() - $3::float8 * interval '1 second'
      and not exists (
            select from outbox.deliveries as d
            where d.event_seq = n.seq and d.finished_at is null
              and d.id between (encode(substr(int8send(n.seq), 3), 'hex') || repeat('0', 20))::uuid
                           and (encode(substr(int8send(n.seq), 3), 'hex') || repeat('f', 20))::uuid)
      and not exists (
            select from outbox.deliveries as d
            where d.event_seq = n.seq and d.finished_at is null
              and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3))
    for update of e skip locked
), gone as (
    delete from public.outbox_events as e using doomed where e.seq = doomed.seq returning e.seq
)
select (select count(*) from near),
       (select max(n.seq) from near as n
        where n.processed_at < now() - $3::float8 * interval '1 second'
           or n.processed_at is null and n.lease_until = 'infinity'
              and n.created_at < now() - $3::float8 * interval '1 second'),
       (select count(*) from gone)
