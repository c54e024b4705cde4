-- What the daemon's role needs and no more: it can read events and mark
-- them, not change their payload, insert, delete or create anything. Of the
-- ledger it deletes what is past its retention, and to the audit it only adds.
-- What is in braces is replaced by the quoted name of the role, which may have a line break: it has
-- no place in a comment.
grant usage on schema public, outbox to {{role}};
grant select, update (processed_at, lease_until, claim) on public.outbox_events to {{role}};
grant select on sequence public.outbox_events_seq_seq to {{role}};
grant select, insert, update, delete on outbox.deliveries to {{role}};
grant select, insert, delete on outbox.attempts to {{role}};
grant select, update (floor) on outbox.state to {{role}};
grant select on outbox.schema_history to {{role}};
grant select, insert, update, delete on outbox.crashes to {{role}};
grant select, insert, update, delete on outbox.sms_counts to {{role}};
grant select, insert on outbox.audit to {{role}};
grant select, insert, delete on outbox.pauses to {{role}};
grant select, insert, update, delete on outbox.brakes to {{role}};
grant select, insert, update, delete on outbox.rates to {{role}};
grant execute on function outbox.gate_open(integer) to {{role}};
