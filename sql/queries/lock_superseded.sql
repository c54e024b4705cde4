-- Lock: event $3 and those whose deliveries it supersedes, in order of seq, as
-- everybody locks rows. $1 and $2 are pairs of business key and step. Runs before
-- freeze_events.sql and supersede.sql in the same transaction. They are found as one array: of
-- two conditions joined by OR, the whole table would be read.
select e.seq
from public.outbox_events as e
where e.seq = any (array(
    select $3::bigint
    union all
    select d.event_seq
    from unnest($1::text[], $2::text[]) as k (key, step)
    join outbox.deliveries as d on d.supersedes = k.key and d.step = k.step
    where d.finished_at is null))
order by e.seq
for no key update of e
