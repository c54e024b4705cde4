-- Claim: lease up to $1 deliveries that are due for $2 seconds under the
-- claim $3. The state stays as it is: "sending" here means that the one who
-- sent it never came back to say how it went. The last column says whether a lease of
-- somebody ran out: see judge_deliveries.sql.
--
-- The time comes from a subquery: a volatile function does not bound the walk of an index, which would
-- read all that waits whenever fewer are due than asked for.
with due as materialized (
    select id, coalesce(claim is not null and get_byte(uuid_send(claim), 6) >> 4 <> 5, false) as ran_out
    from outbox.deliveries
    where due_at <= (select clock_timestamp())
    order by due_at
    limit $1
    for no key update skip locked
)
update outbox.deliveries as d
set due_at = clock_timestamp() + $2::float8 * interval '1 second',
    claim  = $3
from due
where d.id = due.id
returning d.id, d.event_id, d.event_seq, d.event_type, d.event_created_at,
    d.route, d.step, d.channel, d.state, d.attempts, d.generation, coalesce(d.last_error, ''), d.content::text,
    d.deadline <= clock_timestamp(), d.retry::text, d.supersedes, d.after_steps, d.scope::text, d.instead_of, d.ordering_key, due.ran_out,
    coalesce(d.provider_id, '')
