-- Cancel: those of the deliveries $1 that are to be sent again, though a newer event has
-- the same business key and step. They were being sent when that was planned, so that
-- supersede.sql left them alone, and it is known since that nothing was taken. Runs after
-- record_deliveries.sql in the same transaction, under lock_events.sql: whoever plans the
-- newer event locks that row too, or the delivery where the event is deleted
-- (lock_orphaned.sql), and comes before, and is seen here, or after, and sees what was recorded.
update outbox.deliveries as d
set state = 'canceled', finished_at = clock_timestamp(), stuck_at = null, due_at = null,
    last_error = 'superseded by a newer event', content = null, scope = null
where d.id = any ($1::uuid[]) and d.supersedes is not null
  and d.finished_at is null and d.state in ('ready', 'retry')
  and exists (
      select from outbox.deliveries as n
      where n.supersedes = d.supersedes and n.step = d.step and n.event_seq > d.event_seq)
returning d.id
