-- Supersede: of the deliveries with the business keys $1 and the steps $2, pair
-- by pair, those of older events than the newest are canceled, unless they left or
-- may have. Runs after freeze_events.sql in the same transaction, under
-- lock_keys.sql, so that it makes no difference which event was planned first.
--
-- Without its claim a delivery that somebody is about to send cannot be
-- announced any more.
--
-- One that is held may have arrived, and is for a person to judge, unless each of
-- its attempts is on record as not taken: then it is held for another reason, such
-- as a recipient who is not on the list. An attempt without a record is one whose
-- listener died.
--
-- The last column is the line in which one stood, whose turn may pass now; '' for none.
with newest as materialized (
    select k.key, k.step, max(d.event_seq) as seq
    from unnest($1::text[], $2::text[]) as k (key, step)
    join outbox.deliveries as d on d.supersedes = k.key and d.step = k.step
    group by k.key, k.step
)
update outbox.deliveries as d
set state = 'canceled', finished_at = clock_timestamp(), stuck_at = null, due_at = null, claim = null,
    last_error = 'superseded by a newer event', content = null, scope = null
from newest as n
where d.supersedes = n.key and d.step = n.step and d.event_seq < n.seq
  and d.finished_at is null
  and (d.state in ('scheduled', 'ready', 'retry')
       or d.state = 'held' and d.attempts = (
           select count(*) from outbox.attempts as a where a.delivery_id = d.id and a.kind <> 'unknown'))
returning d.id, d.event_seq, coalesce(d.line, '')
