-- creates: trigger outbox_events_wake on public.outbox_events
--
-- The gate. A sleeping listener holds advisory lock K exclusively: "wake me".
-- An inserting transaction whose shared try-lock fails sends one NOTIFY; one
-- whose try succeeds stays silent and holds K shared until it has ended, so
-- that a listener about to sleep waits for it. Nobody is notified in vain:
-- NOTIFY takes a cluster-wide lock at commit and would make commits queue.
-- docs/design.md has the proof.
create or replace function outbox.wake() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
begin
    perform pg_notify('outbox_events', '');
    return null;
end
$$;

revoke all on function outbox.wake() from public;

-- Waits at most wait_ms milliseconds for K and says whether this session
-- holds it now. The lock outlives the call; it ends with the session or with
-- pg_advisory_unlock. Bounded, since a waiting statement pins the horizon
-- behind which vacuum may clean up.
create or replace function outbox.gate_open(wait_ms integer) returns boolean
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
begin
    perform set_config('lock_timeout', wait_ms::text, true);
    perform pg_advisory_lock(7206178340117325153);
    return true;
exception when lock_not_available then
    return false;
end
$$;

revoke all on function outbox.gate_open(integer) from public;

drop trigger if exists outbox_events_wake on public.outbox_events;

create trigger outbox_events_wake
    after insert on public.outbox_events
    for each statement
    when (not pg_try_advisory_xact_lock_shared(7206178340117325153))
    execute function outbox.wake();
