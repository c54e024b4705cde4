-- Find: of the deliveries that are dead or held, those that a person asks for,
-- newest first, by the index that has these alone. The arguments are those of
-- find_deliveries.sql.
select d.id, d.event_id, d.event_type, d.route, d.step, d.channel, d.recipient, d.state, d.attempts, d.generation,
       coalesce(d.last_error, ''), d.due_at, d.stuck_at,
       coalesce(d.receipt, ''), coalesce(d.receipt_code, '')
from outbox.deliveries as d
where d.stuck_at is not null
  and ($1::uuid[] is null or d.id = any ($1::uuid[]))
  and ($2::text[] is null or d.event_type like any ($2::text[]))
  and ($3::text[] is null or d.channel = any ($3::text[]))
  and ($4::text[] is null or d.state = any ($4::text[]))
  and ($5::text is null or position(lower($5::text) in lower(d.last_error)) > 0)
  and ($6::timestamptz is null or d.stuck_at >= $6::timestamptz)
  and ($7::timestamptz is null or d.stuck_at < $7::timestamptz)
order by d.stuck_at desc, d.id desc
limit $8::integer
