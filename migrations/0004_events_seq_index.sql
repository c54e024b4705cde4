-- no transaction
--
-- The order in which events are claimed. It must not mention processed_at,
-- lease_until or claim: that would forbid HOT updates.
create unique index concurrently if not exists outbox_events_seq on public.outbox_events (seq);
