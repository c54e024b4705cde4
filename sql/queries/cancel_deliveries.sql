-- Cancel: the open deliveries $1, for the reason $2. Runs under
-- lock_deliveries.sql and after judge_deliveries.sql in one transaction, and
-- before release_followers.sql and settle_events.sql. The content stays, so that
-- it can be replayed.
update outbox.deliveries as d
set state = 'canceled', finished_at = clock_timestamp(), stuck_at = null, due_at = null, claim = null, last_error = $2
where d.id = any ($1::uuid[]) and d.finished_at is null
returning d.id
