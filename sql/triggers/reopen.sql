-- creates: trigger outbox_events_reopen on public.outbox_events
--
-- Setting processed_at back to null asks for an event again, as it did with
-- the worker that we succeed. The event takes a new place at the end of the
-- order, since claims no longer look where it was, and its deliveries follow
-- it: what was delivered stays delivered, the rest is planned anew.
--
-- SECURITY DEFINER: whoever may set processed_at need not have rights on our
-- own columns or on the ledger.
create or replace function outbox.reopen() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as
$$
declare
    place bigint := nextval('public.outbox_events_seq_seq');
begin
    update public.outbox_events set seq = place, lease_until = null where id = new.id;
    update outbox.deliveries set event_seq = place where event_seq = old.seq;
    return null;
end
$$;

revoke all on function outbox.reopen() from public;

drop trigger if exists outbox_events_reopen on public.outbox_events;

create trigger outbox_events_reopen
    after update of processed_at on public.outbox_events
    for each row
    when (old.processed_at is not null and new.processed_at is null)
    execute function outbox.reopen();
