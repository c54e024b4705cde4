-- Brakes, for people: where nothing is sent at the moment, and why.
select destination, since, until, failures, reason from outbox.brakes order by since, destination
