-- Replay: new deliveries $2 in place of the finished ones $1, due in $3 seconds
-- each: the same bytes, the next generation, all attempts. Runs under
-- lock_deliveries.sql and after judge_deliveries.sql in one transaction.
--
-- What was delivered or skipped has no bytes any more: whoever claims the new
-- one plans its event and fills it in.
--
-- A deadline that has passed is left out: a person wants it sent all the same.
-- What has an ordering key stands in the line of that name again, at its place by seq,
-- which is ahead of all that wait: see pass_turns.sql.
--
-- The event is not touched: where it is processed it stays so.
--
-- What is replaced says so in its claim, which nobody has who works: what came of its
-- step is what comes of the new one (step_results.sql, instead_of.sql).
with made as (
    insert into outbox.deliveries
        (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
         state, attempts, generation, required, due_at, content, deadline, retry, supersedes, after_steps, scope, copy, ordering_key, line)
    select t.new, d.event_id, d.event_seq, d.event_type, d.event_created_at, d.route, d.step, d.channel, d.recipient,
           'ready', 0, d.generation + 1, d.required,
           case when d.ordering_key is null then statement_timestamp() + t.due_in * interval '1 second' end, d.content,
           case when d.deadline > statement_timestamp() + t.due_in * interval '1 second' then d.deadline end,
           d.retry, d.supersedes, case when d.scope is not null then d.after_steps end, d.scope, d.copy,
           d.ordering_key, d.ordering_key
    from unnest($1::uuid[], $2::uuid[], $3::float8[]) as t (old, new, due_in)
    join outbox.deliveries as d on d.id = t.old
    on conflict (id) do nothing
    returning id
), replaced as (
    update outbox.deliveries as d
    set claim = '{{replaced}}'
    from unnest($1::uuid[], $2::uuid[]) as t (old, new)
    where d.id = t.old and t.new in (select id from made)
)
select id from made
