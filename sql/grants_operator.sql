-- What an operator's role needs and no more: it sees what messages say, since
-- a replay copies that, and changes where deliveries stand. Of the audit it can
-- only add to it.
-- What is in braces is replaced by the quoted name of the role, which may have a line break: it has
-- no place in a comment.
grant usage on schema public, outbox to {{role}};
grant select (id, type, created_at, processed_at, seq, lease_until, claim), update (processed_at, lease_until) on public.outbox_events to {{role}};
grant select, insert, update (state, due_at, finished_at, claim, last_error, stuck_at, held_from) on outbox.deliveries to {{role}};
grant select on outbox.attempts, outbox.state, outbox.schema_history, outbox.brakes to {{role}};
grant select, insert on outbox.audit to {{role}};
grant select, insert, delete on outbox.pauses to {{role}};
grant execute on function outbox.deliveries_of(bigint) to {{role}};
