-- Pass: in each of the lines $1, where nobody has the turn, the deliveries of the
-- event with the lowest seq get it, and what was over leaves the line. $2 are
-- patterns of LIKE for the types of events that may come into a line. Runs after
-- lock_lines.sql in one transaction.
--
-- An event below that is committed and not planned may be of the same line: until it
-- is, nobody gets the turn. They lie above the floor, and the look ends at the first
-- one; a parked event is planned.
--
-- An event gets the turn with all its deliveries or with none, since one may wait for
-- another. Where somebody holds a row lock on one, or a listener adopted it and is about
-- to write it anew, the answer says that the line is to be asked again; where the event is
-- deleted since, that listener has nothing to write, and may have ended. A step that waits for others gets the turn with its event and
-- is not due by it; one that is held stays so.
with lines as materialized (
    select distinct t.line from unnest($1::text[]) as t (line)
), heads as materialized (
    select l.line, h.event_seq, h.turn_at
    from lines as l
    cross join lateral (
        select o.event_seq, o.turn_at
        from outbox.deliveries as o
        where o.line = l.line and o.finished_at is null
        order by o.line, o.turn_at, o.event_seq
        limit 1) as h
), unplanned as materialized (
    select e.seq
    from public.outbox_events as e
    where e.seq > (select s.floor from outbox.state as s)
      and e.seq <= (select max(h.event_seq) from heads as h where h.turn_at is null)
      and num_nulls(e.processed_at) = 1
      and e.lease_until is distinct from 'infinity'
      and e.type like any ($2::text[])
    order by e.seq
    limit 1
), next as materialized (
    select h.line, h.event_seq
    from heads as h
    where h.turn_at is null
      and not exists (select from unplanned as u where u.seq <= h.event_seq)
), free as materialized (
    select d.id, d.line, d.event_seq
    from next as n
    join outbox.deliveries as d on d.line = n.line and d.turn_at is null and d.event_seq = n.event_seq
    where d.finished_at is null
      and (d.claim is null or not exists (select from public.outbox_events as e where e.id = d.event_id))
    for no key update of d skip locked
), turned as (
    update outbox.deliveries as d
    set turn_at = clock_timestamp(), claim = null,
        due_at  = case when d.state <> 'held' and not exists (
                            select from outbox.deliveries as o
                            where o.line = d.line and o.turn_at is null and o.event_seq = d.event_seq and o.route = d.route
                              and o.step = any (d.after_steps) and o.finished_at is null)
                       then clock_timestamp() else d.due_at end
    where d.id = any (array(
            select f.id
            from free as f
            where not exists (
                select from outbox.deliveries as o
                where o.line = f.line and o.turn_at is null and o.event_seq = f.event_seq and o.finished_at is null
                  and o.id not in (select g.id from free as g))))
      and d.turn_at is null and d.finished_at is null
    returning d.line, d.due_at
), over as materialized (
    select d.id
    from lines as l
    cross join lateral (
        select o.id from outbox.deliveries as o
        where o.line = l.line and o.turn_at is not null and o.finished_at is not null
        limit 1000) as d
    union all
    select d.id
    from lines as l
    left join heads as h on h.line = l.line
    cross join lateral (
        select o.id from outbox.deliveries as o
        where o.line = l.line and o.turn_at is null and o.finished_at is not null
          and o.event_seq <= coalesce(h.event_seq, 9223372036854775807)
        limit 1000) as d
), gone as (
    update outbox.deliveries as d
    set line = null
    where d.id = any (array(select o.id from over as o)) and d.finished_at is not null
)
select h.line,
       (select count(*) from turned as t where t.line = h.line and t.due_at is not null) as due,
       h.turn_at is null and not exists (select from turned as t where t.line = h.line) as again
from heads as h
