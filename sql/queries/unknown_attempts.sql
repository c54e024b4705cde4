-- Unknown: of the attempts that record_attempts.sql was given, those of unknown outcome take
-- the place of what is on record under the same number with another one. Somebody whose
-- delivery was taken over says late what came of his attempt, and that of his successor
-- has the same number: what may have arrived is told by the attempts that are on record
-- as not taken (judge_deliveries.sql, supersede.sql, instead_of.sql), so that what is
-- unknown stands, whoever comes first.
--
-- Runs after record_attempts.sql in the same transaction, as a statement of its own, so
-- that it sees what that has waited for. Deleted and written anew, since nobody has the
-- right to change an attempt.
with others as (
    delete from outbox.attempts as a
    using unnest($1::uuid[], $2::integer[], $5::text[]) as t (delivery_id, attempt, kind)
    where a.delivery_id = t.delivery_id and a.attempt = t.attempt and t.kind = 'unknown' and a.kind <> 'unknown'
    returning a.delivery_id, a.attempt
)
insert into outbox.attempts (delivery_id, attempt, took, state, kind, status, error)
select t.delivery_id, t.attempt, t.took * interval '1 second', t.state, t.kind, t.status, t.error
from others as o
join unnest($1::uuid[], $2::integer[], $3::float8[], $4::text[], $5::text[], $6::integer[], $7::text[])
     as t (delivery_id, attempt, took, state, kind, status, error)
  on t.delivery_id = o.delivery_id and t.attempt = o.attempt and t.kind = 'unknown'
on conflict do nothing
