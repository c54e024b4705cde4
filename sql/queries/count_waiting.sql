-- Count: the deliveries that are to be sent, of the types that the patterns $1
-- of LIKE fit or on the channels $2, by the index of what is due some time.
select count(*)
from outbox.deliveries as d
where d.due_at is not null and d.finished_at is null and d.state <> 'held'
  and (d.event_type like any ($1::text[]) or d.channel = any ($2::text[]))
