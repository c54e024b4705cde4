-- Record: the outcome of deliveries that are on their own (retries, and those
-- of parked events). One that is no longer held under the claim named here
-- has been taken over and is missing in the result.
--
-- The claim gives way to its successor ($8): a renewal that is under way
-- finds the delivery no more, and repeating this after a lost answer is seen
-- for what it is.
--
-- Nothing waits beyond its deadline to be found expired, but for what may have arrived:
-- its deadline may have passed, and whether it arrived is asked all the same.
--
-- What is held now and was not before has no stuck_at yet: note_held.sql follows, in the
-- same transaction.
--
-- What a person held, and released by changing the row, may be held by us since: then
-- held_from says no more that a person did it.
update outbox.deliveries as d
set state       = t.state,
    attempts    = t.attempts,
    provider_id = coalesce(t.provider_id, d.provider_id),  -- the provider may have reported it meanwhile
    last_error  = t.last_error,
    due_at      = least(clock_timestamp() + t.due_in * interval '1 second',
                        case when t.due_in is not null and (t.state not in ('sending', 'uncertain') or d.deadline > clock_timestamp()) then d.deadline end),
    answer      = coalesce(t.answer::json, d.answer),
    claim       = t.successor,
    content     = case when t.state = 'delivered' then null else d.content end,
    held_from   = case when t.state = 'held' and d.state = 'held' then d.held_from end,
    finished_at = case when t.state in ('delivered', 'dead', 'expired', 'canceled', 'skipped') then clock_timestamp() end,
    stuck_at    = case when t.state = 'dead' or t.state = 'held' and d.state = 'held' then coalesce(d.stuck_at, clock_timestamp()) end
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::float8[], $8::uuid[], $9::text[])
     as t (id, claim, state, attempts, provider_id, last_error, due_in, successor, answer)
where d.id = t.id and d.claim in (t.claim, t.successor)
returning d.id
