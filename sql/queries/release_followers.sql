-- Release: deliveries that waited for those with the ids $1, and of whose steps
-- none is open any more, are due. Runs after record_deliveries.sql in the same
-- transaction, under lock_events.sql, so that of two that end at the same time
-- the later one sees the other.
--
-- So is what is sent instead of one of them, where it is over and not delivered, or
-- where its provider has said what became of it; whether it is sent then is for
-- whoever claims it to judge. Runs after note_report.sql, too. One that somebody has
-- under a lease is being judged.
--
-- An event's deliveries are a range of ids, and those that were moved there when it
-- was opened again: see adopt_deliveries.sql.
with over as materialized (
    select distinct d.event_seq, d.route, d.step, d.finished_at is not null as ended,
           d.finished_at is not null and d.state <> 'delivered'
               or coalesce(d.receipt in ('canceled', 'failed', 'undelivered', 'delivered'), false) as settled
    from outbox.deliveries as d
    where d.id = any ($1::uuid[]) and (d.finished_at is not null or d.receipt is not null)
), theirs as materialized (
    select d.id, d.event_seq, d.route, d.step, d.generation, d.state, d.due_at, d.after_steps, d.instead_of, d.finished_at, d.line, d.turn_at
    from (select distinct event_seq from over) as e
    join outbox.deliveries as d on d.event_seq = e.event_seq
     and d.id between (encode(substr(int8send(e.event_seq), 3), 'hex') || repeat('0', 20))::uuid
                  and (encode(substr(int8send(e.event_seq), 3), 'hex') || repeat('f', 20))::uuid
    union all
    select d.id, d.event_seq, d.route, d.step, d.generation, d.state, d.due_at, d.after_steps, d.instead_of, d.finished_at, d.line, d.turn_at
    from (select distinct event_seq from over) as e
    join outbox.deliveries as d on d.event_seq = e.event_seq
     and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
)
update outbox.deliveries as f
set due_at = clock_timestamp()
where f.finished_at is null
  and (f.due_at is null and f.state = 'ready'
       or f.instead_of is not null and f.state = 'scheduled' and f.due_at > clock_timestamp()
          and (f.claim is null or get_byte(uuid_send(f.claim), 6) >> 4 = 5))
  and f.id = any (array(
      select w.id
      from theirs as w
      join over as d on d.event_seq = w.event_seq and d.route = w.route and d.step = any (w.after_steps) and d.ended
      where w.finished_at is null and w.due_at is null and w.state = 'ready'
        and (w.line is null or w.turn_at is not null)
        and not exists (
            select from theirs as o
            where o.event_seq = w.event_seq and o.route = w.route
              and o.step = any (w.after_steps) and o.finished_at is null)
      union all
      select w.id
      from theirs as w
      join over as d on d.event_seq = w.event_seq and d.route = w.route and d.step = w.instead_of and d.settled
      where w.finished_at is null and w.state = 'scheduled'))
returning f.id
