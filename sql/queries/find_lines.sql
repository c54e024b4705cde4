-- Find: the lines in which deliveries wait behind others, or in which the first one
-- failed and was not given up: who is first, since when it has the turn (or, where nobody
-- has, since when it waits), and how many deliveries of later events wait behind it. Up
-- to $1, the one that has stood the longest first.
--
-- An event that is committed and not planned may be of any line (pass_turns.sql): the lowest
-- one is what a line waits for where nobody has had the turn for 5 s and it is below, and such a line is here
-- too. $2 are patterns of LIKE for the types of such events; null where they are not known, and then none is.
with lines as (
    select d.line, count(*) as open
    from outbox.deliveries as d
    where d.line is not null and d.finished_at is null
    group by d.line
), heads as materialized (
    select l.line, l.open, h.*, h.turn_at is null and h.created_at < clock_timestamp() - interval '5 seconds' as stands
    from lines as l
    cross join lateral (
        select o.id, o.event_id, o.event_seq, o.event_type, o.route, o.step, o.channel, o.recipient, o.state, o.attempts, o.generation,
               o.last_error, o.due_at, o.turn_at, o.created_at  -- no more, since people who look may not read what messages say
        from outbox.deliveries as o
        where o.line = l.line and o.finished_at is null
        order by o.line, o.turn_at, o.event_seq, o.id
        limit 1) as h
), unplanned as materialized (
    select e.seq, e.id, left(e.type, 200) as type
    from public.outbox_events as e
    where e.seq > (select s.floor from outbox.state as s)
      and e.seq <= (select max(h.event_seq) from heads as h where h.stands)
      and num_nulls(e.processed_at) = 1
      and e.lease_until is distinct from 'infinity'
      and e.type like any ($2::text[])
    order by e.seq
    limit 1
)
select h.line, h.id, h.event_id, h.event_type, h.route, h.step, h.channel, h.recipient, h.state, h.attempts, h.generation,
       coalesce(h.last_error, ''), h.due_at, coalesce(h.turn_at, h.created_at),
       (select count(*) from outbox.deliveries as o
        where o.line = h.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq),
       u.id, u.type
from heads as h
left join unplanned as u on h.stands and u.seq <= h.event_seq
where h.state in ('retry', 'uncertain', 'held')
   or u.id is not null
   or h.open > 1 and exists (
        select from outbox.deliveries as o
        where o.line = h.line and o.turn_at is null and o.finished_at is null and o.event_seq <> h.event_seq)
order by coalesce(h.turn_at, h.created_at), h.line
limit $1::integer
