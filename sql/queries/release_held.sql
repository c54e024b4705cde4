-- Release: the held deliveries $1 are sent, under the ids that they have, at
-- once or at their time where that is yet to come. Runs under
-- lock_deliveries.sql and after judge_deliveries.sql in one transaction.
update outbox.deliveries as d
set state = case when d.due_at > clock_timestamp() then 'scheduled' else 'ready' end, claim = null,
    due_at = greatest(d.due_at, clock_timestamp()), stuck_at = null
where d.id = any ($1::uuid[]) and d.state = 'held'
returning d.id
