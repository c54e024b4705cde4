-- Lock: the deliveries $1, in order of their ids. Runs after lock_events_of.sql.
-- A claim steps around what is locked, an announcement and a record wait.
select d.id from outbox.deliveries as d where d.id = any ($1::uuid[]) order by d.id for no key update of d
