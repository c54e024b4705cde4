-- Settle: parked events of which no required delivery is open any more are
-- processed. One that its route put off to a later time does not hold its
-- event back. Runs after lock_events.sql and record_deliveries.sql in the
-- same transaction, as a statement of its own, so that it sees what others
-- committed before the lock was theirs to give.
--
-- The deliveries are found as adopt_deliveries.sql says.
update public.outbox_events as e
set processed_at = clock_timestamp(), lease_until = null
where e.seq = any ($1::bigint[])
  and num_nulls(e.processed_at) = 1
  and e.lease_until = 'infinity'
  and not exists (
      select from outbox.deliveries as d
      where d.event_seq = e.seq and d.required and d.finished_at is null and d.state <> 'scheduled'
        and d.id between (encode(substr(int8send(e.seq), 3), 'hex') || repeat('0', 20))::uuid
                     and (encode(substr(int8send(e.seq), 3), 'hex') || repeat('f', 20))::uuid)
  and not exists (
      select from outbox.deliveries as d
      where d.event_seq = e.seq and d.required and d.finished_at is null and d.state <> 'scheduled'
        and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3))
