-- Tell: where one of the deliveries $1, which a person has changed, stands in a line, the
-- listeners look for lines in which nobody has the turn. An operator cannot pass it: which types
-- of events may come into a line is what the routes of the listeners say. Runs in the
-- transaction of the change, and is heard when that is committed.
select pg_catalog.pg_notify('outbox_events', 'lines')
from outbox.deliveries as d
where d.id = any ($1::uuid[]) and d.line is not null
limit 1
