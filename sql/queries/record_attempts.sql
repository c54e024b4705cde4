-- One row for each attempt that was not simply taken. One that is there already stays:
-- see unknown_attempts.sql.
insert into outbox.attempts (delivery_id, attempt, took, state, kind, status, error)
select t.delivery_id, t.attempt, t.took * interval '1 second', t.state, t.kind, t.status, t.error
from unnest($1::uuid[], $2::integer[], $3::float8[], $4::text[], $5::text[], $6::integer[], $7::text[])
     as t (delivery_id, attempt, took, state, kind, status, error)
on conflict do nothing
