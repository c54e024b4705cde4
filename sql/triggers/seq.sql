-- creates: trigger outbox_events_seq on public.outbox_events
--
-- An insert that names our column with null (a row copied with all its
-- columns, say) gets a number all the same: a row without one is never
-- claimed.
create or replace function outbox.assign_seq() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as
$$
begin
    new.seq := nextval('public.outbox_events_seq_seq');
    return new;
end
$$;

revoke all on function outbox.assign_seq() from public;

drop trigger if exists outbox_events_seq on public.outbox_events;

create trigger outbox_events_seq
    before insert on public.outbox_events
    for each row
    when (new.seq is null)
    execute function outbox.assign_seq();
