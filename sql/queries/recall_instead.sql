-- Recall: of the deliveries $1, which wait for word of the steps that they are sent
-- instead of, those are due again whose step does not stand any more as it did when that was
-- judged: in state $2, with the report $3. While they were judged they were leased, so that
-- release_followers.sql left them alone. Runs under lock_events.sql and after
-- record_deliveries.sql in one transaction: a report that commits before is seen here, and
-- one that commits after sees that nobody has them. Which delivery counts is as in
-- instead_of.sql.
update outbox.deliveries as f
set due_at = clock_timestamp()
from unnest($1::uuid[], $2::text[], $3::text[]) as t (id, state, receipt)
where f.id = t.id and f.state = 'scheduled' and f.instead_of is not null
  and exists (
      select from (
          select d.state, d.receipt
          from (
              select d.id, d.generation, d.route, d.step, d.channel, d.state, d.receipt, d.claim
              from outbox.deliveries as d
              where d.event_seq = f.event_seq
                and d.id between (encode(substr(int8send(f.event_seq), 3), 'hex') || repeat('0', 20))::uuid
                             and (encode(substr(int8send(f.event_seq), 3), 'hex') || repeat('f', 20))::uuid
              union all
              select d.id, d.generation, d.route, d.step, d.channel, d.state, d.receipt, d.claim
              from outbox.deliveries as d
              where d.event_seq = f.event_seq and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3)
          ) as d
          where d.route = f.route and d.step = f.instead_of and d.channel <> ''
          order by d.claim is not distinct from '{{replaced}}', substr(uuid_send(d.id), 1, 6) desc, d.generation desc, d.id
          limit 1
      ) as now
      where now.state <> t.state or coalesce(now.receipt, '') <> t.receipt)
returning f.id
