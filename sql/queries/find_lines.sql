-- Find: the lines in which deliveries wait behind others, or in which the first one
-- failed and was not given up: who is first, since when it has the turn (or, where nobody
-- has, since when it waits), and how many deliveries of later events wait behind it. Up
-- to $1, the one that has stood the longest first.
with lines as (
    select d.line, count(*) as open
    from outbox.deliveries as d
    where d.line is not null and d.finished_at is null
    group by d.line
)
select l.line, h.id, h.event_id, h.event_type, h.route, h.step, h.channel, h.recipient, h.state, h.attempts, h.generation,
       coalesce(h.last_error, ''), h.due_at, coalesce(h.turn_at, h.created_at),
       (select count(*) from outbox.deliveries as o
        where o.line = l.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq)
from lines as l
cross join lateral (
    select o.id, o.event_id, o.event_seq, o.event_type, o.route, o.step, o.channel, o.recipient, o.state, o.attempts, o.generation,
           o.last_error, o.due_at, o.turn_at, o.created_at  -- no more, since people who look may not read what messages say
    from outbox.deliveries as o
    where o.line = l.line and o.finished_at is null
    order by o.line, o.turn_at, o.event_seq, o.id
    limit 1) as h
where h.state in ('retry', 'uncertain', 'held')
   or l.open > 1 and exists (
        select from outbox.deliveries as o
        where o.line = l.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq)
order by coalesce(h.turn_at, h.created_at), l.line
limit $1::integer
