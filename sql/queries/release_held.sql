-- Release: the held deliveries $1 are sent, under the ids that they have, at
-- once or at their time where that is yet to come. Runs under
-- lock_deliveries.sql and after judge_deliveries.sql in one transaction.
--
-- What is sent instead of another step is judged at once, since word of that may have come
-- while it was held.
--
-- One that waits in a line is due once it has the turn: see pass_turns.sql.
--
-- One that was uncertain when a person held it is so again, and what its step says
-- about that is done: its provider is asked first, say. $2 has it sent in any case.
update outbox.deliveries as d
set state = case when d.due_at > clock_timestamp() then 'scheduled'
                 when d.held_from = 'uncertain' and not $2::boolean then 'uncertain'
                 else 'ready' end,
    due_at = case when d.line is null or d.turn_at is not null then greatest(case when d.instead_of is null then d.due_at end, clock_timestamp()) end, claim = null, stuck_at = null, held_from = null
where d.id = any ($1::uuid[]) and d.state = 'held'
returning d.id
