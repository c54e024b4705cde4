-- Find: the deliveries that a person asks for, newest event first; null
-- arguments ask for anything. $1 ids, $2 patterns of event types for LIKE, $3
-- channels, $4 states, $5 words that are part of last_error, $6 and $7 since and
-- until when they stand so (dead, held, finished, or made), $8 how many.
--
-- Planned each time, so that an argument that is null drops out of the plan:
-- ids are found by the primary key, and what is asked for without a time by a
-- walk from its newest end, which stops at $8.
select d.id, d.event_id, d.event_type, d.route, d.step, d.channel, d.recipient, d.state, d.attempts, d.generation,
       coalesce(d.last_error, ''), d.due_at, coalesce(d.stuck_at, d.finished_at, d.created_at),
       coalesce(d.receipt, ''), coalesce(d.receipt_code, '')
from outbox.deliveries as d
where ($1::uuid[] is null or d.id = any ($1::uuid[]))
  and ($2::text[] is null or d.event_type like any ($2::text[]))
  and ($3::text[] is null or d.channel = any ($3::text[]))
  and ($4::text[] is null or d.state = any ($4::text[]))
  and ($5::text is null or position(lower($5::text) in lower(d.last_error)) > 0)
  and ($6::timestamptz is null or coalesce(d.stuck_at, d.finished_at, d.created_at) >= $6::timestamptz)
  and ($7::timestamptz is null or coalesce(d.stuck_at, d.finished_at, d.created_at) < $7::timestamptz)
order by d.id desc
limit $8::integer
