-- Which of the events $1 somebody else holds a row lock on at this moment.
with free as materialized (
    select seq from public.outbox_events where seq = any ($1::bigint[]) for no key update skip locked
)
select e.seq
from public.outbox_events as e
where e.seq = any ($1::bigint[])
  and e.seq not in (select seq from free)
