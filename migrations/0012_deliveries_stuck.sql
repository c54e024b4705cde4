-- no transaction
--
-- Dead letters, and what is held for a person: found without a look at all
-- that was delivered. A delivery that is neither costs a comparison and no entry.
create index concurrently if not exists deliveries_stuck on outbox.deliveries (stuck_at) where stuck_at is not null;
