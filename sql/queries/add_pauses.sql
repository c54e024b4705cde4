-- Pause: what $1 and $2 name, pair by pair, as outbox.pauses has it. What is
-- paused already stays as it is, and is missing in the result.
insert into outbox.pauses (kind, pattern, who, reason)
select t.kind, t.pattern, $3, $4
from unnest($1::text[], $2::text[]) as t (kind, pattern)
on conflict do nothing
returning kind, pattern
