-- Disown: of the deliveries $1, which were adopted under the claims $2, those whose event was
-- deleted before its plan was on record are nobody's, and go on by themselves: with
-- the state that they have, at the time that they have, or at once. $3 says which wait for a
-- step that goes on so, too: its record makes them due (release_followers.sql). What
-- stands in a line waits for its turn, and what is held for a person.
update outbox.deliveries as d
set claim = null,
    due_at = case when d.state = 'held' or t.waits or d.line is not null and d.turn_at is null then d.due_at
                  else coalesce(d.due_at, clock_timestamp()) end
from unnest($1::uuid[], $2::uuid[], $3::boolean[]) as t (id, claim, waits)
where d.id = t.id and d.claim = t.claim and d.finished_at is null
  and not exists (select from public.outbox_events as e where e.id = d.event_id)
returning d.id
