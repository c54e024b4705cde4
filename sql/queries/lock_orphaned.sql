-- Lock: what may be superseded by one of the pairs of business key $1 and step $2, and is of an
-- event that was deleted, in the order of record_deliveries.sql. Where there is no event to
-- lock, the delivery is locked in its place: of the record of one that was being sent and
-- supersede.sql, the later one sees what the other did. Runs after lock_superseded.sql, as a
-- statement of its own, so that it sees what was deleted while that waited, and before
-- supersede.sql in the same transaction.
select d.id
from unnest($1::text[], $2::text[]) as k (key, step)
join outbox.deliveries as d on d.supersedes = k.key and d.step = k.step
where d.finished_at is null
  and not exists (select from public.outbox_events as e where e.id = d.event_id)
order by d.event_seq, d.id
for no key update of d
