-- Find: the lines in which deliveries wait behind others, or in which the first one
-- failed and was not given up: who is first, since when it has the turn (or, where nobody
-- has, since when it waits), and how many deliveries of later events wait behind it. Up
-- to $1, the one that has stood the longest first.
--
-- An event that is committed and not planned may be of any line (pass_turns.sql): the lowest
-- one is what a line waits for where nobody has the turn and it is below, and such a line is here too once it
-- has stood for 5 s. $2 are patterns of LIKE for the types of such events; null where they are not known, and then it is
-- one that has, or had, a lease.
with unplanned as materialized (
    select e.seq, e.id, left(coalesce(e.type, ''), 200) as type
    from public.outbox_events as e
    where e.seq > (select s.floor from outbox.state as s)
      and e.processed_at is null
      and e.lease_until is distinct from 'infinity'
      and case when $2::text[] is null then e.lease_until is not null else e.type like any ($2::text[]) end
    order by e.seq
    limit 1
), lines as (
    select d.line, count(*) as open
    from outbox.deliveries as d
    where d.line is not null and d.finished_at is null
    group by d.line
)
select l.line, h.id, h.event_id, h.event_type, h.route, h.step, h.channel, h.recipient, h.state, h.attempts, h.generation,
       coalesce(h.last_error, ''), h.due_at, coalesce(h.turn_at, h.created_at),
       (select count(*) from outbox.deliveries as o
        where o.line = l.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq),
       u.id, u.type
from lines as l
cross join lateral (
    select o.id, o.event_id, o.event_seq, o.event_type, o.route, o.step, o.channel, o.recipient, o.state, o.attempts, o.generation,
           o.last_error, o.due_at, o.turn_at, o.created_at  -- no more, since people who look may not read what messages say
    from outbox.deliveries as o
    where o.line = l.line and o.finished_at is null
    order by o.line, o.turn_at, o.event_seq, o.id
    limit 1) as h
left join unplanned as u on h.turn_at is null and u.seq <= h.event_seq
where h.state in ('retry', 'uncertain', 'held')
   or l.open > 1 and exists (
        select from outbox.deliveries as o
        where o.line = l.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq)
   or u.id is not null and h.created_at < clock_timestamp() - interval '5 seconds'
order by coalesce(h.turn_at, h.created_at), l.line
limit $1::integer
