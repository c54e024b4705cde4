-- Hold: the open deliveries $1, for the reason $2, until a person releases
-- them. Runs under lock_deliveries.sql and after judge_deliveries.sql in one
-- transaction. One that is scheduled keeps its time, and each of them the state that
-- it had.
update outbox.deliveries as d
set state = 'held', stuck_at = clock_timestamp(), held_from = d.state, claim = null, last_error = $2, due_at = case when d.state = 'scheduled' then d.due_at end
where d.id = any ($1::uuid[]) and d.finished_at is null
returning d.id
